"""What MLflow is to show of a variant and of a stage, and how much of it has been published."""

import logging
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property, partial

from pipeline.config import Config
from pipeline.graph.graph import Node
from pipeline.log.read_log import Entry, LogReader
from pipeline.log.stage_log import now_ms
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
        self._failures: Counter[str] = Counter()

    @abstractmethod
    def publish(self, tracker: Tracker) -> bool:
        """Publish what is new; return whether that was the last. MLflow's errors are raised."""

    def stop(self) -> None:
        """No more will come of it in this run."""
        self._stopped = True

    def forget(self) -> None:  # noqa: B027 - not all remember something
        """Begin anew with the next `publish`, which leaves out what MLflow has."""

    def _store(self, tracker: Tracker, files: Mapping[str, Callable[[], None]]) -> None:
        """Store files; one that MLflow does not take although it answers is left out in the end.

        Files may be stored elsewhere than all else, by other rights.
        """
        errors = []
        for name, store in files.items():
            if self._failures[name] == TRIES:
                continue
            try:
                store()
            except Exception as error:  # noqa: BLE001 - raised below, or left out
                tracker.ping(self.name.experiment)
                self._failures[name] += 1
                if self._failures[name] < TRIES:
                    errors.append(error)
                else:
                    _logger.warning(
                        "MLflow: '%s' of %s was left out: %s", name, self.name.name, one_line(error)
                    )
        if errors:
            raise errors[0]


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
        return flatten(self.config.document(UNTRACKED_SECTIONS))

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
            self._store(tracker, {name: partial(run.file, output, name)})
        run.set_status(end.status, end.time_ms)
        return True


class StagePublication(Publication):
    """The run of a stage: its settings, log, files, scores and tokenizer."""

    def __init__(self, node: Node, variant: RunName) -> None:
        self._settings = node.settings
        self._output = node.artifact
        super().__init__(name_of_stage(node, variant))
        self.forget()

    @cached_property
    def _params(self) -> dict[str, str]:
        return flatten(self._settings)

    def forget(self) -> None:
        self._reader = LogReader(self._output)
        self._unpublished: list[Entry] = []
        self._last: Entry = {}

    def publish(self, tracker: Tracker) -> bool:
        # In this order: a stage ends its log, writes its manifest, its lease is released, we are told to
        # stop. What is published from storage alone may be made by another run in this moment.
        stopped = self._stopped
        may_grow = not stopped or is_being_made(self._output)
        is_complete = self._output.is_complete()
        run = tracker.run(self.name, self._started_ms)
        if is_complete and run.status == "FINISHED":
            return True
        told = self._output.read_json(MANIFEST) if is_complete else {}
        run.describe(self._params, provenance.tags(told))
        self._read_log()
        run.metrics([entry for entry in self._unpublished if "metrics" in entry])
        ended_ms = self._last.get("time_ms", now_ms())
        run.scores(self._output.metrics() if is_complete else {}, ended_ms)
        self._store(tracker, self._files(run, is_complete=is_complete))
        self._unpublished = []
        # Last: a run that has finished is complete.
        run.set_status(self._status(is_complete=is_complete, may_grow=may_grow), ended_ms)
        return is_complete or stopped

    def _started_ms(self) -> int | None:
        self._read_log()
        return self._unpublished[0]["time_ms"] if self._unpublished else None

    def _read_log(self) -> None:
        new = self._reader.new()
        self._unpublished += new
        self._last = new[-1] if new else self._last

    def _files(self, run: MlflowRun, *, is_complete: bool) -> dict[str, Callable[[], None]]:
        """The files that the log shows, and the tokenizer at the end; how each is stored."""
        names = [entry["file"] for entry in self._unpublished if "file" in entry]
        files: dict[str, Callable[[], None]] = {
            name: partial(run.file, self._output, name) for name in names
        }
        if is_complete and self._output.exists(f"{TOKENIZER}/{MODEL_CONFIG}"):
            files[TOKENIZER] = partial(log_tokenizer, run, self.name, self._output)
        return files

    def _status(self, *, is_complete: bool, may_grow: bool) -> Status:
        if is_complete:
            return "FINISHED"
        if "error" in self._last:  # it may start again
            return "FAILED"
        return "RUNNING" if may_grow else "KILLED"


def _redacted(tags: Mapping[str, str]) -> dict[str, str]:
    return {name: redact(text) for name, text in tags.items()}


def has_begun(node: Node) -> bool:
    """Whether there is something to publish."""
    return node.artifact.is_complete() or bool(node.artifact.names(LOG))
