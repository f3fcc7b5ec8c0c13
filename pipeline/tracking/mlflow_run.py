"""One MLflow run: takes what it does not have yet, however often that is offered."""

import logging
import math
import posixpath
import shutil
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pipeline.log.read_log import Entry
from pipeline.storage.artifacts import COPIED_BYTES, Artifact
from pipeline.tracking.failure import is_refusal, one_line
from pipeline.tracking.spelling import spell_name, spell_params, spell_tags

if TYPE_CHECKING:
    from mlflow.entities import Metric, Run

Status = Literal["RUNNING", "FINISHED", "FAILED", "KILLED"]

# By the class of an entry, how `log_batch` calls it.
_KINDS = {"Metric": "metrics", "Param": "params", "RunTag": "tags"}

_logger = logging.getLogger("pipeline.tracking")


class MlflowRun:
    """A run at MLflow, and what it is known to hold, for as long as one process publishes it.

    A value that MLflow refuses is left out, and one line names it.
    """

    def __init__(self, client: Any, found: "Run") -> None:
        self.client = client
        self.run_id: str = found.info.run_id
        self.experiment_id: str = found.info.experiment_id
        self.status: str = found.info.status
        self._params = set(found.data.params)
        self._tags = dict(found.data.tags)
        self._with_history = set(found.data.metrics)
        self._steps: dict[str, set[int]] = {}
        self._files: dict[str, dict[str, int]] = {}

    def describe(self, params: Mapping[str, str], tags: Mapping[str, str]) -> None:
        """Log parameters, of which the first value stands, and tags, of which the last one does."""
        from mlflow.entities import Param, RunTag

        spelled = spell_params(params)
        new_params = {key: text for key, text in spelled.items() if key not in self._params}
        new_tags = dict(spell_tags(tags).items() - self._tags.items())
        entries = [Param(key, text) for key, text in new_params.items()]
        self._log([*entries, *(RunTag(key, text) for key, text in new_tags.items())])
        self._params.update(new_params)
        self._tags.update(new_tags)

    def metrics(self, entries: Sequence[Entry]) -> None:
        """Log the values of a log's entries; a step that is there keeps its value."""
        from mlflow.entities import Metric

        new: dict[tuple[str, int], Metric] = {}
        for entry in entries:
            step = entry["step"]
            for name, value in entry["metrics"].items():
                key = spell_name(name)
                if step not in self._steps_of(key):
                    new.setdefault((key, step), Metric(key, value, entry["time_ms"], step))
        # Of an unanswered request nobody knows whether it took effect. Sent again, it changes
        # nothing: MLflow drops what is equal in all, the time included.
        self._log(list(new.values()))
        for key, step in new:
            self._steps[key].add(step)

    def scores(self, scores: Mapping[str, float], time_ms: int) -> None:
        """Log each score at the end of its history, unless it is there."""
        from mlflow.entities import Metric

        new = []
        for name, value in scores.items():
            key = spell_name(name)
            last = max(self._history(key), key=_place, default=None)
            if last is None:
                new.append(Metric(key, value, time_ms, 0))
            elif _as_stored(last.value) != _as_stored(value):
                # Of two values of one step the later one is shown.
                new.append(Metric(key, value, max(time_ms, last.timestamp + 1), last.step))
        self._log(new)
        self._with_history |= {metric.key for metric in new}

    def file(self, output: Artifact, name: str) -> None:
        """Store a file of an output, unless one of that name and size is there.

        Raises:
            ArtifactError: there is no such file.
        """
        folder, _, leaf = spell_name(name).rpartition("/")
        size = output.filesystem.size(output.path(name)) if output.exists(name) else -1
        if self._files_in(folder).get(leaf) == size:
            return
        with tempfile.TemporaryDirectory() as scratch, output.read(name) as source:
            copy = Path(scratch, leaf)
            with copy.open("wb") as target:
                shutil.copyfileobj(source, target, COPIED_BYTES)
            self.client.log_artifact(self.run_id, str(copy), folder or None)
            self._files_in(folder)[leaf] = copy.stat().st_size

    def set_status(self, status: Status, ended_ms: int | None = None) -> None:
        """Say how the run stands; `ended_ms` is when it ended, or else now."""
        if status == self.status:
            return
        if status == "RUNNING":
            self.client.update_run(self.run_id, status=status)
        else:
            self.client.set_terminated(self.run_id, status, end_time=ended_ms)
        self.status = status

    def _steps_of(self, key: str) -> set[int]:
        if key not in self._steps:
            self._steps[key] = {metric.step for metric in self._history(key)}
        return self._steps[key]

    def _history(self, key: str) -> "list[Metric]":
        known = key in self._with_history or key in self._steps
        return list(self.client.get_metric_history(self.run_id, key)) if known else []

    def _files_in(self, folder: str) -> dict[str, int]:
        if folder not in self._files:
            found = self.client.list_artifacts(self.run_id, folder or None)
            self._files[folder] = {posixpath.basename(file.path): file.file_size for file in found}
        return self._files[folder]

    def _log(self, entries: Sequence[Any]) -> None:
        """Log entries; if MLflow refuses them, halve them until what it refuses is alone."""
        batch: dict[str, list[Any]] = {kind: [] for kind in _KINDS.values()}
        for entry in entries:
            batch[_KINDS[type(entry).__name__]].append(entry)
        try:
            self.client.log_batch(self.run_id, **batch)
        except Exception as error:
            if not is_refusal(error) or not self._exists():
                raise
            if len(entries) == 1:
                what = type(entries[0]).__name__.removeprefix("Run").lower()
                _logger.warning(
                    "MLflow: %s %r was left out: %s", what, entries[0].key, one_line(error)
                )
                return
            middle = len(entries) // 2
            self._log(entries[:middle])
            self._log(entries[middle:])

    def _exists(self) -> bool:
        return bool(self.client.get_run(self.run_id).info.lifecycle_stage == "active")


def _place(metric: "Metric") -> tuple[int, int]:
    return metric.step, metric.timestamp


def _as_stored(value: float) -> float | None:
    """The value as databases have it: infinity is the greatest number; None is not a number."""
    greatest = sys.float_info.max
    return None if math.isnan(value) else min(max(value, -greatest), greatest)
