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
from pipeline.tracking.logged_model import log_tokenizer
from pipeline.tracking.run_name import RunName
from pipeline.tracking.spelling import MAX_PARAM_CHARACTERS, spell_name, spell_tags, spell_text

if TYPE_CHECKING:
    from mlflow.entities import Metric

Status = Literal["RUNNING", "FINISHED", "FAILED", "KILLED"]

# MLflow refuses more in one call.
_PER_BATCH = {"metrics": 1000, "params": 100, "tags": 100}

_logger = logging.getLogger("pipeline.tracking")


class MlflowRun:
    """A run at MLflow, and what it is known to hold, for as long as one process publishes it.

    A value that MLflow refuses is left out, and one line names it.
    """

    def __init__(self, client: Any, experiment_id: str, run_id: str) -> None:
        self.run_id = run_id
        self._client = client
        self._experiment_id = experiment_id
        found = client.get_run(run_id)
        self.status: str = found.info.status
        self._params = set(found.data.params)
        self._with_history = set(found.data.metrics)
        self._steps: dict[str, set[int]] = {}
        self._files: dict[str, dict[str, int]] = {}

    def params(self, params: Mapping[str, str]) -> None:
        """Log parameters, which cannot change: the first value of each stands."""
        from mlflow.entities import Param

        spelled = {spell_name(name): text for name, text in params.items()}
        new = [key for key in spelled if key not in self._params]
        self._log(
            "params", [Param(key, spell_text(spelled[key], MAX_PARAM_CHARACTERS)) for key in new]
        )

    def tags(self, tags: Mapping[str, str]) -> None:
        """Set tags; a later value replaces an earlier one."""
        from mlflow.entities import RunTag

        self._log("tags", [RunTag(key, text) for key, text in spell_tags(tags).items()])

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
        self._log("metrics", list(new.values()))
        for key, step in new:
            self._steps[key].add(step)

    def scores(self, scores: Mapping[str, float], time_ms: int) -> None:
        """Log each score at the end of its history, unless it is there."""
        from mlflow.entities import Metric

        new = []
        for name, value in scores.items():
            key = spell_name(name)
            score = Metric(key, value, time_ms, 0)
            last = max(self._history(key), key=_place, default=None)
            if last is None or _as_stored(last.value) != _as_stored(value):
                step = 0 if last is None else last.step
                # Of two values of one step the later one is shown.
                later = time_ms if last is None else max(time_ms, last.timestamp + 1)
                new.append(Metric(key, score.value, later, step))
        self._log("metrics", new)
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
            self._client.log_artifact(self.run_id, str(copy), folder or None)
            self._files_in(folder)[leaf] = copy.stat().st_size

    def tokenizer(self, name: RunName, output: Artifact) -> None:
        """Store an output's tokenizer as the model of this run, unless it has one."""
        log_tokenizer(self._client, self._experiment_id, self.run_id, name, output)

    def set_status(self, status: Status, ended_ms: int | None = None) -> None:
        """Say how the run stands; `ended_ms` is when it ended, or else now."""
        if status == "RUNNING":
            self._client.update_run(self.run_id, status=status)
        else:
            self._client.set_terminated(self.run_id, status, end_time=ended_ms)
        self.status = status

    def _steps_of(self, key: str) -> set[int]:
        if key not in self._steps:
            self._steps[key] = {metric.step for metric in self._history(key)}
        return self._steps[key]

    def _history(self, key: str) -> "list[Metric]":
        known = key in self._with_history or key in self._steps
        return list(self._client.get_metric_history(self.run_id, key)) if known else []

    def _files_in(self, folder: str) -> dict[str, int]:
        if folder not in self._files:
            found = self._client.list_artifacts(self.run_id, folder or None)
            self._files[folder] = {posixpath.basename(file.path): file.file_size for file in found}
        return self._files[folder]

    def _log(self, kind: str, entries: list[Any]) -> None:
        for start in range(0, len(entries), _PER_BATCH[kind]):
            self._log_batch(kind, entries[start : start + _PER_BATCH[kind]])

    def _log_batch(self, kind: str, entries: list[Any]) -> None:
        """Log entries; if MLflow refuses them, halve them until what it refuses is alone."""
        try:
            self._client.log_batch(self.run_id, **{kind: entries})
        except Exception as error:
            if not is_refusal(error) or not self._exists():
                raise
            if len(entries) == 1:
                _logger.warning(
                    "MLflow: %s %r was left out: %s", kind[:-1], entries[0].key, one_line(error)
                )
                return
            middle = len(entries) // 2
            self._log_batch(kind, entries[:middle])
            self._log_batch(kind, entries[middle:])

    def _exists(self) -> bool:
        return bool(self._client.get_run(self.run_id).info.lifecycle_stage == "active")


def _place(metric: "Metric") -> tuple[int, int]:
    return metric.step, metric.timestamp


def _as_stored(value: float) -> float | None:
    """The value as databases have it: infinity is the greatest number; None is not a number."""
    greatest = sys.float_info.max
    return None if math.isnan(value) else min(max(value, -greatest), greatest)
