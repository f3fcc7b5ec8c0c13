"""What MLflow is to show of a variant and of a stage, and how much of it has been published."""

import logging
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property, partial

from pipeline.config import Config
from pipeline.graph.graph import Node
from pipeline.log.read_log import Entry, LogReader
from pipeline.redaction import flatten, redact
from pipeline.storage import provenance
from pipeline.storage.artifacts import LOG, MANIFEST, MODEL_CONFIG, Artifact
from pipeline.storage.leases import is_being_made
from pipeline.tokenizer.identity import TOKENIZER
from pipeline.tracking.failure import one_line
from pipeline.tracking.logged_model import log_tokenizer
from pipeline.tracking.mlflow_run import MlflowRun, Status
from pipeline.tracking.run_name import (
    UNTRACKED_SECTIONS,
    RunName,
    name_of_stage,
    name_of_variant,
)
from pipeline.tracking.tracker import Tracker

# How often something is tried that MLflow does not take although it answers.
TRIES = 3

_logger = logging.getLogger("pipeline.tracking")


class Publication(ABC):
    """Something that MLflow shows, as the run `name`, and that may still grow."""

    def __init__(self, name: RunName) -> None:
        self.name = name
        self._stopped = False
        self.forget()

    @abstractmethod
    def publish(self, tracker: Tracker) -> bool:
        """Publish what is new; return whether that was the last. MLflow's errors are raised."""

    def stop(self) -> None:
        """No more will come of it in this run."""
        self._stopped = True

    def forget(self) -> None:
        """Begin anew with the next `publish`, which leaves out what MLflow has."""
        self._failed_files = 0

    def _store(self, tracker: Tracker, name: str, store: Callable[[], None]) -> None:
        """Store a file; after some failures, one that MLflow does not take is left out, with a warning.

        Files may be stored elsewhere than all else, by other rights.
        """
        try:
            store()
        except Exception as error:
            self._failed_files += 1
            if self._failed_files < TRIES:
                raise
            tracker.ping(self.name.experiment)
            _logger.warning(
                "MLflow: '%s' of %s was left out: %s", name, self.name.name, one_line(error)
            )


def now_ms() -> int:
    return int(time.time() * 1000)


@dataclass(frozen=True)
class End:
    """How and when a variant has ended; `tags` replace those that it had, `page` has its results."""

    status: Status
    scores: Mapping[str, float] = field(default_factory=dict)
    page: tuple[Artifact, str] | None = None
    tags: Mapping[str, str] = field(default_factory=dict)
    time_ms: int = field(default_factory=now_ms)


class VariantPublication(Publication):
    """The run of a variant: its config, and at the end its scores."""

    def __init__(self, config: Config, tags: Mapping[str, str]) -> None:
        super().__init__(name_of_variant(config))
        self.config = config
        self._tags = _redacted(tags)
        self._end: End | None = None

    def end(self, end: End) -> None:
        """No more will come."""
        self._tags = {**self._tags, **_redacted(end.tags)}
        self._end = end

    @cached_property
    def _params(self) -> dict[str, str]:
        return flatten(self.config.model_dump(mode="json", exclude=UNTRACKED_SECTIONS))

    def publish(self, tracker: Tracker) -> bool:
        end = self._end
        run = tracker.run(self.name)
        run.describe(self._params, self._tags)
        if end is None:
            run.set_status("RUNNING")
            return False
        run.scores(end.scores, end.time_ms)
        if end.page is not None:
            output, name = end.page
            self._store(tracker, name, partial(run.file, output, name))
        run.set_status(end.status, end.time_ms)
        return True


class StagePublication(Publication):
    """The run of a stage: its settings, log, files, scores and tokenizer."""

    def __init__(self, node: Node, variant: RunName) -> None:
        self._settings = node.settings
        self._output = node.artifact
        super().__init__(name_of_stage(node, variant))

    @cached_property
    def _params(self) -> dict[str, str]:
        return flatten(self._settings)

    def forget(self) -> None:
        super().forget()
        self._reader = LogReader(self._output)
        self._unpublished: list[Entry] = []
        self._last: Entry = {}

    def publish(self, tracker: Tracker) -> bool:
        # In this order: a stage ends its log, writes its manifest, and then we are told to stop.
        stopped = self._stopped
        is_complete = self._output.is_complete()
        run = tracker.run(self.name, self._started_ms)
        if is_complete and run.status == "FINISHED":
            return True
        told = self._output.read_json(MANIFEST) if is_complete else {}
        run.describe(self._params, provenance.tags(told))
        self._publish_log(tracker, run)
        if is_complete:
            self._complete(tracker, run)
        elif "error" in self._last:  # it may start again
            run.set_status("FAILED", self._last["time_ms"])
        else:  # what is published from storage alone may be made by another run in this moment
            killed = stopped and not is_being_made(self._output)
            run.set_status("KILLED" if killed else "RUNNING", self._last.get("time_ms"))
        return is_complete or stopped

    def _started_ms(self) -> int | None:
        self._read_log()
        return self._unpublished[0]["time_ms"] if self._unpublished else None

    def _read_log(self) -> None:
        self._unpublished += self._reader.new()

    def _publish_log(self, tracker: Tracker, run: MlflowRun) -> None:
        self._read_log()
        entries = self._unpublished
        self._last = entries[-1] if entries else self._last
        run.metrics([entry for entry in entries if "metrics" in entry])
        for name in dict.fromkeys(entry["file"] for entry in entries if "file" in entry):
            self._store(tracker, name, partial(run.file, self._output, name))
        self._unpublished = []

    def _complete(self, tracker: Tracker, run: MlflowRun) -> None:
        ended_ms = self._last.get("time_ms", now_ms())
        run.scores(self._output.metrics(), ended_ms)
        if self._output.exists(f"{TOKENIZER}/{MODEL_CONFIG}"):
            store = partial(log_tokenizer, run, self.name, self._output)
            self._store(tracker, TOKENIZER, store)
        # Last: a run that has finished is complete.
        run.set_status("FINISHED", ended_ms)


def _redacted(tags: Mapping[str, str]) -> dict[str, str]:
    return {name: redact(text) for name, text in tags.items()}


def has_begun(node: Node) -> bool:
    """Whether there is something to publish."""
    return node.artifact.is_complete() or bool(node.artifact.names(LOG))
