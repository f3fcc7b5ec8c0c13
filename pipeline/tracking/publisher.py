"""Publishes to MLflow in a thread of the driver, which nobody waits for."""

import logging
import threading
import time
from collections import Counter
from typing import TYPE_CHECKING

from pipeline.redaction import redact
from pipeline.tracking.failure import is_refusal, one_line
from pipeline.tracking.publication import TRIES, Publication
from pipeline.tracking.tracker import Tracker

if TYPE_CHECKING:
    from pipeline.tracking.run_name import RunName

# How often the storage is looked at; after an error the wait doubles, up to the second.
LOOK_SECONDS = 3.0
LONGEST_WAIT_SECONDS = 10.0
_TRIES_AT_THE_END = 3
WAIT_AT_THE_END_SECONDS = 1.0

_logger = logging.getLogger("pipeline.tracking")


class Publisher:
    """Publishes what it is given, and what comes of that later, until it is closed.

    While MLflow does not answer it is asked again and again, with a warning at the first time. What
    was published is looked at again when MLflow refuses something, since its store may be another.
    """

    def __init__(self, tracker: Tracker) -> None:
        self._tracker = tracker
        self._lock = threading.Lock()
        self._open: list[Publication] = []
        self._done: list[Publication] = []
        self._closing = threading.Event()
        self._is_silent = False
        self._failed: Counter[RunName] = Counter()
        self._thread: threading.Thread | None = None

    def add(self, publication: Publication) -> None:
        with self._lock:
            self._open.append(publication)
        if self._thread is None:
            # A daemon: a run that has ended must not wait for MLflow.
            self._thread = threading.Thread(target=self._work, name="mlflow", daemon=True)
            self._thread.start()

    def close(self, seconds: float) -> bool:
        """Publish what is left, unless MLflow fails three times; return whether nothing is.

        It takes up to `seconds`.
        """
        self._closing.set()
        if self._thread is not None:
            self._thread.join(seconds)
        return not self._open

    def report_outage(self, error: Exception) -> None:
        """Warn, once for each outage, that MLflow does not answer, and say what happens now."""
        if not self._is_silent:
            self._is_silent = True
            _logger.warning(
                "MLflow at %s does not answer (%s). The run goes on, and is published when MLflow is "
                "back",
                redact(self._tracker.uri),
                one_line(error),
            )

    def _work(self) -> None:
        failures = 0
        while True:
            is_last = self._closing.is_set()
            failures = 0 if self._publish_all() else failures + 1
            if not is_last:
                self._closing.wait(min(LOOK_SECONDS * 2**failures, LONGEST_WAIT_SECONDS))
            elif 0 < failures < _TRIES_AT_THE_END:
                time.sleep(WAIT_AT_THE_END_SECONDS)
            else:
                return

    def _publish_all(self) -> bool:
        """Publish what is new of everything; return whether there was no error."""
        with self._lock:
            publications = list(self._open)
        succeeded = True
        for publication in publications:
            try:
                is_done = publication.publish(self._tracker)
            except Exception as error:  # noqa: BLE001 - no error may stop the run
                succeeded = False
                if not self._answers_after(error, publication):
                    return False
            else:
                self._answered()
                if is_done:
                    self._move(publication)
        return succeeded

    def _answers_after(self, error: Exception, publication: Publication) -> bool:
        """Whether MLflow answers other requests, so that other publications may do better."""
        name = publication.name
        try:
            self._tracker.ping(name.experiment)
        except Exception as silence:  # noqa: BLE001 - as above
            self.report_outage(silence)
            return False
        self._failed[name] += 1
        if self._failed[name] == TRIES:
            _logger.warning("MLflow: %s is not published yet: %s", name.name, one_line(error))
        if is_refusal(error):
            self._open_again()
        return True

    def _move(self, publication: Publication) -> None:
        with self._lock:
            self._open.remove(publication)
            self._done.append(publication)

    def _open_again(self) -> None:
        """Publish everything anew."""
        self._tracker.forget()
        with self._lock:
            self._open += self._done
            self._done.clear()
            for publication in self._open:
                publication.forget()

    def _answered(self) -> None:
        if self._is_silent:
            self._is_silent = False
            _logger.warning("MLflow at %s answers again", redact(self._tracker.uri))
