"""The queue between logging code and MLflow: one thread of a process sends events in order."""

import logging
import threading
from collections import deque
from collections.abc import Iterable
from contextlib import suppress

from pipeline.redaction import redact
from pipeline.storage.artifacts import ArtifactError
from pipeline.tracking.event import Event, RunName
from pipeline.tracking.failure import RunNotFoundError, is_refusal, one_line
from pipeline.tracking.outbox import Outbox
from pipeline.tracking.tracker import METRICS_PER_BATCH, Tracker

# Above the first limit waiting events go to the outbox; above the second new events are dropped.
EVENTS_IN_MEMORY = (20_000, 100_000)
BYTES_IN_MEMORY = (64 << 20, 256 << 20)
LONGEST_WAIT_SECONDS = 30.0
_FIRST_WAIT_SECONDS = 0.5
_TRIES_OF_A_FLUSH = 3
_TRIES_OF_AN_EVENT = 4

_logger = logging.getLogger("pipeline.tracking")


class Sender:
    """Accepts events from any thread without delay, and sends them to one MLflow address.

    While MLflow does not answer, it is asked again after waits that grow to 30 s, and events stay
    in memory; too many of them go to the outbox. No MLflow error is raised here.

    One process leads (`leads`), the driver: it alone creates runs, sends what other processes left
    in the outbox, and uploads tokenizers, for which no training worker should hold its GPU. Every
    other process sends what the outbox holds of a run before it first logs to that run, so that the
    steps of a run come from one process at a time.
    """

    def __init__(self, uri: str, outbox_uri: str, *, leads: bool = False) -> None:
        self.leads = leads
        self._address = redact(uri)
        self._tracker = Tracker(uri, creates=leads)
        self._outbox = Outbox(outbox_uri)
        self._changed = threading.Condition()
        self._hurry = threading.Event()
        self._thread: threading.Thread | None = None
        self._events: deque[Event] = deque()
        self._bytes = 0
        self._dropped = 0
        self._left_to_leader: list[Event] = []
        self._sweeping = False
        self._busy = False
        self._failures = 0
        self._silent = False
        self._looked_for: set[RunName] = set()
        self._unreadable: set[str] = set()
        self._status_ms: dict[RunName, int] = {}
        self._warned: set[str] = set()

    def put(self, event: Event) -> None:
        """Queue `event`. Never waits for MLflow or the storage."""
        with self._changed:
            if event.kind == "tokenizer" and not self.leads:
                self._left_to_leader.append(event)
                return
            if len(self._events) >= EVENTS_IN_MEMORY[1] or self._bytes >= BYTES_IN_MEMORY[1]:
                self._dropped += 1
                return
            if event.kind == "status":
                self._status_ms[event.run] = event.time_ms
            self._events.append(event)
            self._bytes += len(event.data)
            self._start()

    def flush(self, seconds: float, *, sweep: bool = False) -> None:
        """Send everything, with `sweep` the outbox too; put what is left into the outbox.

        Gives up after `seconds`, or when MLflow has failed three times in a row.
        """
        with self._changed:
            self._sweeping = sweep
            self._failures = 0
            if self._sweeping or self._events:
                self._start()
            self._hurry.set()
            self._changed.wait_for(
                lambda: self._is_idle() or self._failures >= _TRIES_OF_A_FLUSH, seconds
            )
            self._sweeping = False
        self._store(self._take())

    def report_outage(self, error: Exception) -> None:
        """Warn, once for each outage, that MLflow does not answer, and say what happens now.

        Only the leading process does.
        """
        if self._silent or not self.leads:
            return
        self._silent = True
        _logger.warning(
            "MLflow at %s does not answer (%s). The run goes on; what it logs waits in memory and "
            "in %s, and is sent when MLflow is back, or by the next `run`",
            self._address,
            one_line(error),
            redact(self._outbox.uri),
        )

    def _start(self) -> None:
        if self._thread is None:
            # A daemon: tracking must not keep a process alive that has finished its work.
            self._thread = threading.Thread(target=self._work, name="mlflow-sender", daemon=True)
            self._thread.start()
        self._changed.notify_all()

    def _is_idle(self) -> bool:
        return not (self._events or self._sweeping or self._busy)

    def _work(self) -> None:
        while True:
            with self._changed:
                self._busy = bool(self._events or self._sweeping)
                self._changed.notify_all()
                if not self._busy:
                    self._thread = None
                    return
            try:
                self._advance()
            except Exception as error:  # noqa: BLE001 - no error may stop the run
                self._failed(error)
            else:
                self._failures = 0

    def _failed(self, error: Exception) -> None:
        if not isinstance(error, RunNotFoundError):
            self.report_outage(error)
        with self._changed:
            self._failures += 1
            doubled = _FIRST_WAIT_SECONDS * 2 ** min(self._failures - 1, 20)
            wait = min(LONGEST_WAIT_SECONDS, doubled)
            too_much = len(self._events) > EVENTS_IN_MEMORY[0] or self._bytes > BYTES_IN_MEMORY[0]
            self._changed.notify_all()
        if too_much:
            self._store(self._take())
        self._hurry.wait(wait)
        self._hurry.clear()

    def _answered(self) -> None:
        with self._changed:
            dropped, self._dropped = self._dropped, 0
        if self._silent:
            self._silent = False
            _logger.warning("MLflow at %s answers again", self._address)
        if dropped:
            _logger.warning("MLflow: %d entries were dropped: too many waited for it", dropped)

    def _advance(self) -> None:
        """Send the next batch, or the next file of the outbox."""
        with self._changed:
            batch = first_batch(self._events)
        if not batch:
            self._sweep()
            return
        run = batch[0].run
        if batch[0].is_final_score if self.leads else run not in self._looked_for:
            # The worker's steps come before the final score that the leader appends.
            self._send_files(self._outbox.files(run.key))
            self._looked_for.add(run)
        self._send(batch)
        with self._changed:
            # Unless a flush has removed them in the meantime.
            if self._events and self._events[0] is batch[0]:
                for event in batch:
                    self._events.popleft()
                    self._bytes -= len(event.data)
            self._changed.notify_all()

    def _sweep(self) -> None:
        """Send what the outbox holds of one run; if it is empty, the sweep is over."""
        waiting = [name for name in self._outbox.files() if name not in self._unreadable]
        if waiting:
            run_key, _, _ = waiting[0].partition("/")
            self._send_files([name for name in waiting if name.startswith(f"{run_key}/")])
            return
        with self._changed:
            self._sweeping = False
            self._changed.notify_all()

    def _send_files(self, names: list[str]) -> None:
        """Send all that the outbox holds of one run, final scores last, then delete the files."""
        events = [event for name in names for event in self._read(name)]
        events = [event for event in events if not self._is_outdated(event)]
        events.sort(key=lambda event: (event.is_final_score, event.time_ms))
        while batch := first_batch(events):
            events = events[len(batch) :]
            if batch[0].kind == "tokenizer" and not self.leads:
                self._left_to_leader += batch
            else:
                self._send(batch)
        for name in names:
            if name not in self._unreadable:
                with suppress(FileNotFoundError):
                    self._outbox.delete(name)

    def _read(self, name: str) -> list[Event]:
        try:
            return self._outbox.read(name)
        except (ArtifactError, FileNotFoundError):
            return []  # another process has just sent it
        except ValueError as error:
            self._unreadable.add(name)
            self._warn(f"{self._outbox.uri}/{name} cannot be read and is kept", error)
            return []

    def _is_outdated(self, event: Event) -> bool:
        """Whether a status from the outbox belongs to an earlier session of a run that is running."""
        return event.kind == "status" and (
            not self.leads or event.time_ms < self._status_ms.get(event.run, 0)
        )

    def _send(self, events: list[Event]) -> None:
        """Send one batch; if MLflow refuses it, halve it until the refused values are alone, and drop these."""
        try:
            self._tracker.send(events)
        except Exception as error:
            if not is_refusal(error) and not self._is_hopeless(events[0], error):
                raise
            halves = halved(events)
            if not halves:
                self._answered()
                self._warn(f"{events[0]} of {events[0].run.name} was dropped", error)
            for half in halves:
                self._send(half)
        else:
            self._answered()

    def _is_hopeless(self, event: Event, error: Exception) -> bool:
        """Whether an event has failed too often although MLflow answers other requests."""
        if isinstance(error, RunNotFoundError) or self._failures < _TRIES_OF_AN_EVENT:
            return False
        try:
            self._tracker.ping(event.run.experiment)
        except Exception:  # noqa: BLE001 - MLflow answers no request
            return False
        return True

    def _take(self) -> list[Event]:
        """Remove and return all waiting events."""
        with self._changed:
            taken = [*self._events, *self._left_to_leader]
            self._events.clear()
            self._left_to_leader.clear()
            self._bytes = 0
            self._changed.notify_all()
        return taken

    def _store(self, events: list[Event]) -> None:
        self._looked_for -= {event.run for event in events}
        try:
            self._outbox.add(events)
        except Exception as error:  # noqa: BLE001 - the stage reports a full storage
            self._warn(f"{len(events)} entries were dropped", error)

    def _warn(self, what: str, error: Exception) -> None:
        """Log one line, and none twice of one thing: errors may name values and times."""
        if what not in self._warned:
            self._warned.add(what)
            _logger.warning("MLflow: %s: %s", what, one_line(error))


def first_batch(events: Iterable[Event]) -> list[Event]:
    """The first events that fit one call: of one run and kind, at most 1000 metric values."""
    batch: list[Event] = []
    values = 0
    for event in events:
        values += len(event.content.get("values", ())) if event.kind == "metrics" else 0
        if batch and (
            event.kind not in {"metrics", "params", "tags"}
            or (event.run, event.kind) != (batch[0].run, batch[0].kind)
            or event.is_final_score != batch[0].is_final_score
            or values > METRICS_PER_BATCH
        ):
            break
        batch.append(event)
    return batch


def halved(events: list[Event]) -> list[list[Event]]:
    """The batch in two; nothing if it says a single thing."""
    middle = len(events) // 2
    if middle:
        return [events[:middle], events[middle:]]
    return [[half] for half in events[0].halves()]
