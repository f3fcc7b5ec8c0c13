"""Publishes to MLflow in a thread of the driver, which nobody waits for."""

import logging
import threading
import time
from collections import Counter

from pipeline.redaction import redact
from pipeline.tracking.failure import is_refusal, one_line
from pipeline.tracking.publication import TRIES, Publication
from pipeline.tracking.run_name import RunName
from pipeline.tracking.tracker import Tracker

# How often the storage is looked at, and how long after an error at the end.
LOOK_SECONDS = 3.0
WAIT_AT_THE_END_SECONDS = 1.0

_logger = logging.getLogger("pipeline.tracking")


class Publisher:
    """Publishes what it is given, and what comes of that later, until it is closed.

    While MLflow does not answer it is asked again and again, with a warning at the first time. What
    was published is looked at again when MLflow refuses something, since its store may be another.
    """

    def __init__(self, tracker: Tracker) -> None:
        self._tracker = tracker
        self._publications: dict[RunName, Publication] = {}
        self._published: set[RunName] = set()
        self._failures: Counter[RunName] = Counter()
        self._is_silent = False
        self._closing = threading.Event()
        # A daemon: a run that has ended must not wait for MLflow.
        self._thread = threading.Thread(target=self._work, name="mlflow", daemon=True)

    def add(self, publication: Publication) -> None:
        """What has been added before goes on as it is."""
        self._publications.setdefault(publication.name, publication)
        if not self._thread.ident:
            self._thread.start()

    def close(self, seconds: float) -> bool:
        """Publish what is left, unless MLflow fails three times; return whether nothing is.

        It takes up to `seconds`. No more comes of what was added.
        """
        for publication in self._publications.values():
            publication.stop()
        self._closing.set()
        if self._thread.ident:
            self._thread.join(seconds)
        return self._published == self._publications.keys()

    def report_outage(self, error: BaseException) -> None:
        """Warn, once for each outage, that MLflow does not answer, and say what happens now."""
        if not self._is_silent:
            self._is_silent = True
            _logger.warning(
                "MLflow at %s does not answer (%s). It is asked again and again, and no stage waits "
                "for it",
                redact(self._tracker.uri),
                one_line(error),
            )

    def _work(self) -> None:
        self._publish_all()
        while not self._closing.wait(LOOK_SECONDS):
            self._publish_all()
        for _ in range(TRIES):
            if self._publish_all():
                return
            time.sleep(WAIT_AT_THE_END_SECONDS)

    def _publish_all(self) -> bool:
        """Publish what is new of everything; return whether there was no error."""
        succeeded = True
        for name, publication in list(self._publications.items()):
            if name in self._published:
                continue
            try:
                is_done = publication.publish(self._tracker)
            except Exception as error:  # noqa: BLE001 - no error may stop the run
                succeeded = False
                if not self._answers_after(error, name):
                    return False
            else:
                self._report_answer()
                self._published |= {name} if is_done else set()
        return succeeded

    def _answers_after(self, error: Exception, name: RunName) -> bool:
        """Whether MLflow answers other requests, so that other publications may do better."""
        try:
            self._tracker.ping(name.experiment)
        except Exception as silence:  # noqa: BLE001 - as above
            self.report_outage(silence)
            return False
        self._failures[name] += 1
        if self._failures[name] == TRIES:
            _logger.warning("MLflow: %s is not published yet: %s", name.name, one_line(error))
        if is_refusal(error):
            self._publish_anew()
        return True

    def _publish_anew(self) -> None:
        self._tracker.forget()
        self._published.clear()
        for publication in list(self._publications.values()):
            publication.forget()

    def _report_answer(self) -> None:
        if self._is_silent:
            self._is_silent = False
            _logger.warning("MLflow at %s answers again", redact(self._tracker.uri))
