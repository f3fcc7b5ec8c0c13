"""What MLflow is to show of a variant and of a stage, and how much of it has been published."""

import logging
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Protocol

from pipeline.config import Config
from pipeline.graph.graph import Node
from pipeline.log.read_log import Entry, LogReader
from pipeline.redaction import flatten, redact
from pipeline.storage import provenance
from pipeline.storage.artifacts import LOG, MANIFEST, MODEL_CONFIG, Artifact
from pipeline.tokenizer.identity import TOKENIZER
from pipeline.tracking.failure import one_line
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


class Publication(Protocol):
    """Something that MLflow shows, which may still grow."""

    @property
    def name(self) -> RunName:
        """The run that shows it."""

    def publish(self, tracker: Tracker) -> bool:
        """Publish what is new; return whether that was the last. MLflow's errors are raised."""

    def forget(self) -> None:
        """Begin anew with the next `publish`, which leaves out what MLflow has."""


@dataclass(frozen=True)
class End:
    """How a variant has ended: its status, scores, the page with its results, and when it was."""

    status: Status
    scores: Mapping[str, float]
    page: tuple[Artifact, str] | None
    time_ms: int


class VariantPublication:
    """The run of a variant: its config, and at the end its scores."""

    def __init__(self, config: Config, tags: Mapping[str, str]) -> None:
        self.name = name_of_variant(config)
        self._settings = config.model_dump(mode="json", exclude=UNTRACKED_SECTIONS)
        self._tags = {name: redact(text) for name, text in tags.items()}
        self._end: End | None = None
        self._files = _Files(self.name)
        self.forget()

    def end(self, end: End, tags: Mapping[str, str] | None = None) -> None:
        """No more will come; `tags` replace those that the run had."""
        self._tags |= {name: redact(text) for name, text in (tags or {}).items()}
        self._end = end

    def forget(self) -> None:
        self._run: MlflowRun | None = None

    def publish(self, tracker: Tracker) -> bool:
        end = self._end
        run = self._run or self._open(tracker)
        if end is None:
            return False
        run.tags(self._tags)
        run.scores(end.scores, end.time_ms)
        if end.page is not None:
            output, name = end.page
            self._files.store(tracker, name, partial(run.file, output, name))
        run.set_status(end.status, end.time_ms)
        return True

    def _open(self, tracker: Tracker) -> MlflowRun:
        run = tracker.run(self.name)
        run.params(flatten(self._settings))
        run.tags(self._tags)
        run.set_status("RUNNING")
        self._run = run
        return run


class StagePublication:
    """The run of a stage: its settings, log, files, scores and tokenizer."""

    def __init__(self, node: Node, variant: RunName) -> None:
        self.name = name_of_stage(node, variant)
        self._node = node
        self._output = node.artifact
        self._stopped = False
        self._files = _Files(self.name)
        self.forget()

    def stop(self) -> None:
        """No more will come of it in this run."""
        self._stopped = True

    def forget(self) -> None:
        self._run: MlflowRun | None = None
        self._reader = LogReader(self._output)
        self._unpublished: list[Entry] = []
        self._last: Entry = {}

    def publish(self, tracker: Tracker) -> bool:
        # The log ends before the manifest is written.
        is_complete = self._output.is_complete()
        run = self._run or self._open(tracker, is_complete=is_complete)
        if is_complete and run.status == "FINISHED":
            return True
        self._publish_log(tracker, run)
        if is_complete:
            self._complete(tracker, run)
        elif "error" in self._last:
            run.set_status("FAILED", self._last["time_ms"])
        elif self._stopped:
            run.set_status("KILLED", self._last.get("time_ms"))
        else:
            return False
        return True

    def _open(self, tracker: Tracker, *, is_complete: bool) -> MlflowRun:
        run = tracker.run(self.name, self._started_ms)
        run.params(flatten(self._node.settings))
        if not is_complete:
            run.set_status("RUNNING")
        self._run = run
        return run

    def _started_ms(self) -> int | None:
        first = next(iter(LogReader(self._output).new()), None)
        return None if first is None else first["time_ms"]

    def _publish_log(self, tracker: Tracker, run: MlflowRun) -> None:
        self._unpublished += self._reader.new()
        entries = self._unpublished
        self._last = entries[-1] if entries else self._last
        run.metrics([entry for entry in entries if "metrics" in entry])
        for name in dict.fromkeys(entry["file"] for entry in entries if "file" in entry):
            self._files.store(tracker, name, partial(run.file, self._output, name))
        self._unpublished = []

    def _complete(self, tracker: Tracker, run: MlflowRun) -> None:
        ended_ms = self._last.get("time_ms", now_ms())
        run.tags(provenance.tags(self._output.read_json(MANIFEST)))
        run.scores(self._output.metrics(), ended_ms)
        if self._output.exists(f"{TOKENIZER}/{MODEL_CONFIG}"):
            self._files.store(tracker, TOKENIZER, partial(run.tokenizer, self.name, self._output))
        # Last: a run that has finished is complete.
        run.set_status("FINISHED", ended_ms)


class _Files:
    """Stores files of a run; one that MLflow does not take is left out in the end, with a warning.

    Files may be stored elsewhere than all else, by other rights.
    """

    def __init__(self, run: RunName) -> None:
        self._run = run
        self._failed: Counter[str] = Counter()

    def store(self, tracker: Tracker, name: str, store: Callable[[], None]) -> None:
        if self._failed[name] == TRIES:
            return
        try:
            store()
        except Exception as error:
            self._failed[name] += 1
            if self._failed[name] < TRIES:
                raise
            tracker.ping(self._run.experiment)
            _logger.warning(
                "MLflow: '%s' of %s was left out: %s", name, self._run.name, one_line(error)
            )


def has_begun(node: Node) -> bool:
    """Whether there is something to publish."""
    return node.artifact.is_complete() or bool(node.artifact.names(LOG))


def now_ms() -> int:
    return int(time.time() * 1000)
