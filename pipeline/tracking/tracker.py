"""MLflow at one address: calls that wait for its answer. Only the sender's thread makes them."""

import logging
import math
import os
import re
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.redaction import redact
from pipeline.storage.artifacts import aside_of
from pipeline.tracking.address import sqlite_path
from pipeline.tracking.event import Event, RunName
from pipeline.tracking.failure import RunNotFoundError, TrackingError, is_refusal
from pipeline.tracking.logged_model import log_tokenizer
from pipeline.tracking.spelling import (
    MAX_PARAM_CHARACTERS,
    MAX_RUN_NAME_CHARACTERS,
    spell_name,
    spell_tags,
    spell_text,
)

if TYPE_CHECKING:
    from mlflow.entities import Metric

PARENT_TAG = "mlflow.parentRunId"
NAME_TAG = "mlflow.runName"

METRICS_PER_BATCH = 1000  # MLflow refuses more in one call
_TEXTS_PER_BATCH = 100

# Values that a filter can hold.
_PLAIN = re.compile(r"[\w.-]{1,200}", re.ASCII)

# Without it MLflow opens an experiment on its pages for language-model applications.
_KIND = {"mlflow.experimentKind": "custom_model_development"}

# By default it sends usage statistics, draws progress bars, and waits minutes for a dead server. It
# must not repeat requests: we check ourselves whether an unanswered request took effect.
_ENVIRONMENT = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "20",
}
# This logger prints a traceback for a locked database, which is tried again, and each attempt.
_LOUD = "mlflow.store.db.utils"


@dataclass
class _Record:
    """What MLflow is known to hold of one run."""

    experiment_id: str
    run_id: str
    params: set[str]
    with_history: set[str]
    steps: dict[str, set[int]] = field(default_factory=dict)


class Tracker:
    """Sends events to MLflow, each once, however often they are offered.

    With `creates`, missing experiments and runs are created; a process without it waits for the one
    that has it, so no run is created twice. MLflow errors are raised; after one, what the run holds
    is read again.
    """

    def __init__(self, uri: str, *, creates: bool = False) -> None:
        self.uri = uri
        self._creates = creates
        self._experiments: dict[str, str] = {}
        self._ids: dict[RunName, tuple[str, str]] = {}
        self._records: dict[RunName, _Record] = {}

    def ping(self, experiment: str) -> None:
        """Reach MLflow and its experiment.

        Raises:
            TrackingError: the experiment was deleted.
            RunNotFoundError: it is missing, and this process must not create it.
        """
        self._experiments.pop(experiment, None)
        self._experiment_id(experiment)

    def send(self, events: Sequence[Event]) -> None:
        """Log events of one kind of one run, in their order.

        Raises:
            RunNotFoundError: the run is missing, and this process must not create it.
        """
        run = events[0].run
        try:
            record = self._record(run)
            match events[0].kind:
                case "params":
                    self._send_params(record, events)
                case "tags":
                    self._send_tags(record, events)
                case "metrics":
                    self._send_metrics(record, events)
                case "status":
                    self._send_status(record, events[-1])
                case "artifact":
                    for event in events:
                        self._send_artifact(record, event)
                case "tokenizer":
                    uri = events[-1].content["uri"]
                    log_tokenizer(self._client(), record.experiment_id, record.run_id, run, uri)
        except Exception as error:
            self._records.pop(run, None)
            if is_refusal(error):  # it may have been deleted
                self._ids.clear()
            raise

    def _send_params(self, record: _Record, events: Sequence[Event]) -> None:
        """Keep the first value of a key: MLflow's parameters cannot change."""
        from mlflow.entities import Param

        offered: dict[str, str] = {}
        for event in events:
            for name, text in event.content.items():
                offered.setdefault(spell_name(name), spell_text(text, MAX_PARAM_CHARACTERS))
        new = [Param(key, text) for key, text in offered.items() if key not in record.params]
        for batch in _batches(new, _TEXTS_PER_BATCH):
            self._client().log_batch(record.run_id, params=batch)
            record.params.update(param.key for param in batch)

    def _send_tags(self, record: _Record, events: Sequence[Event]) -> None:
        from mlflow.entities import RunTag

        tags = {name: text for event in events for name, text in event.content.items()}
        entries = [RunTag(key, text) for key, text in spell_tags(tags).items()]
        for batch in _batches(entries, _TEXTS_PER_BATCH):
            self._client().log_batch(record.run_id, tags=batch)

    def _send_metrics(self, record: _Record, events: Sequence[Event]) -> None:
        """Skip a value whose step exists: a resumed run offers its history again."""
        from mlflow.entities import Metric

        entries: list[Metric] = []
        finals: dict[str, Metric] = {}
        for event in events:
            step = event.content["step"]
            for name, value in event.content["values"].items():
                key = spell_name(name)
                if step is None:
                    finals[key] = Metric(key, value, event.time_ms, 0)
                elif step not in (steps := self._steps(record, key)):
                    steps.add(step)
                    entries.append(Metric(key, value, event.time_ms, step))
        entries += self._final_entries(record, finals)
        for batch in _batches(entries, METRICS_PER_BATCH):
            self._client().log_batch(record.run_id, metrics=batch)
            record.with_history.update(metric.key for metric in batch)

    def _steps(self, record: _Record, key: str) -> set[int]:
        """The steps that the run has of `key`, read once."""
        if key not in record.steps:
            record.steps[key] = {metric.step for metric in self._history(record, key)}
        return record.steps[key]

    def _history(self, record: _Record, key: str) -> list[Any]:
        if key not in record.with_history:
            return []
        return list(self._client().get_metric_history(record.run_id, key))

    def _final_entries(self, record: _Record, finals: "dict[str, Metric]") -> "list[Metric]":
        """Each score at the end of its history, unless it is already there."""
        from mlflow.entities import Metric

        if finals:
            # Another process, the run's worker, may have logged to it since.
            record.with_history |= set(self._client().get_run(record.run_id).data.metrics)
        entries = []
        for key, score in finals.items():
            history = self._history(record, key)
            last = max(history, key=lambda metric: (metric.step, metric.timestamp), default=score)
            known = {(metric.timestamp, _as_stored(metric.value)) for metric in history}
            stands = bool(history) and _as_stored(last.value) == _as_stored(score.value)
            if not stands and (score.timestamp, _as_stored(score.value)) not in known:
                entries.append(Metric(key, score.value, score.timestamp, last.step))
        return entries

    def _send_status(self, record: _Record, event: Event) -> None:
        status = event.content["status"]
        if status == "RUNNING":
            self._client().update_run(record.run_id, status=status)
        else:
            self._client().set_terminated(record.run_id, status, end_time=event.time_ms)

    def _send_artifact(self, record: _Record, event: Event) -> None:
        folder, _, leaf = spell_name(event.content["path"]).rpartition("/")
        with tempfile.TemporaryDirectory() as scratch:
            path = Path(scratch, leaf)
            path.write_bytes(event.data)
            self._client().log_artifact(record.run_id, str(path), folder or None)

    def _record(self, run: RunName) -> _Record:
        if run not in self._records:
            experiment_id, run_id = self._ids_of(run)
            data = self._client().get_run(run_id).data
            self._records[run] = _Record(experiment_id, run_id, set(data.params), set(data.metrics))
        return self._records[run]

    def _ids_of(self, run: RunName) -> tuple[str, str]:
        """The ids of the run's experiment and of the run itself."""
        if run not in self._ids:
            experiment_id = self._experiment_id(run.experiment)
            tags = spell_tags(dict(run.tags))
            if run.parent is not None:
                _, tags[PARENT_TAG] = self._ids_of(run.parent)
            run_id = self._take_up(experiment_id, run.name, tags)
            self._ids[run] = (experiment_id, run_id)
        return self._ids[run]

    def _take_up(self, experiment_id: str, name: str, tags: dict[str, str]) -> str:
        """The id of the run with these `tags`, created if it is missing."""
        known = self._search(experiment_id, tags)
        if known:
            return known[0]
        if not self._creates:
            raise RunNotFoundError(f"there is no run '{name}' yet")
        client = self._client()
        shown = spell_text(name, MAX_RUN_NAME_CHARACTERS) or "unnamed"
        created = client.create_run(experiment_id, tags={**tags, NAME_TAG: shown}).info.run_id
        # Another driver may have created one at the same moment: all use the older one.
        (first, *_) = self._search(experiment_id, tags) or [created]
        if first != created:
            client.delete_run(created)
        return str(first)

    def _search(self, experiment_id: str, tags: dict[str, str]) -> list[str]:
        """The ids of the runs with these `tags`, the oldest first."""
        # The filter cannot escape quotes and more; one of the tags is always a digest.
        wanted = " and ".join(
            f"tags.`{key}` = '{value}'" for key, value in tags.items() if _PLAIN.fullmatch(value)
        )
        candidates = self._client().search_runs([experiment_id], wanted)
        runs = [run for run in candidates if tags.items() <= run.data.tags.items()]
        runs.sort(key=lambda run: (run.info.start_time, run.info.run_id))
        return [str(run.info.run_id) for run in runs]

    def _experiment_id(self, name: str) -> str:
        if name not in self._experiments:
            self._experiments[name] = self._find_experiment(name)
        return self._experiments[name]

    def _find_experiment(self, name: str) -> str:
        if self._creates:
            _create_sqlite(self.uri)
        elif (path := sqlite_path(self.uri)) is not None and not path.exists():
            # This is not the driver's machine; MLflow would create a second store here.
            raise RunNotFoundError(f"there is no {path} here")
        client = self._client()
        experiment = client.get_experiment_by_name(name)
        if experiment is None:
            if not self._creates:
                raise RunNotFoundError(f"there is no experiment '{name}' yet")
            from mlflow.exceptions import MlflowException

            try:
                location = _artifact_location(self.uri)
                return str(client.create_experiment(name, artifact_location=location, tags=_KIND))
            except MlflowException:
                # Another process may have created it in the meantime.
                experiment = client.get_experiment_by_name(name)
                if experiment is None:
                    raise
        if experiment.lifecycle_stage != "active":
            raise TrackingError(
                f"the MLflow experiment '{name}' at {redact(self.uri)} was deleted: restore it with "
                f"`mlflow experiments restore -x {experiment.experiment_id}`, or set tracking.experiment"
            )
        return str(experiment.experiment_id)

    def _client(self) -> Any:
        return connect(self.uri)


def connect(uri: str) -> Any:
    """MLflow's own client, which keeps its connections from one call to the next."""
    load()
    from mlflow import MlflowClient

    return MlflowClient(tracking_uri=uri)


def load() -> None:
    """Import MLflow with our settings; it takes seconds the first time."""
    for name, value in _ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    logging.getLogger(_LOUD).setLevel(logging.CRITICAL)
    import mlflow  # noqa: F401


def _create_sqlite(uri: str) -> None:
    """Create a missing SQLite store under another name and move it into place.

    MLflow creates its tables in many steps: two processes that do so at once, or one that is
    killed, leave a store that cannot be opened.
    """
    path = sqlite_path(uri)
    if path is None or path.exists():
        return
    aside = aside_of(path)
    try:
        connect(f"sqlite:///{aside}").search_experiments(max_results=1)
        path.hardlink_to(aside)
    except FileExistsError:
        if not path.exists():
            raise
    finally:
        aside.unlink(missing_ok=True)


def _artifact_location(uri: str) -> str | None:
    """Beside the SQLite file; a server has its own."""
    path = sqlite_path(uri)
    return None if path is None else path.with_name("mlartifacts").as_uri()


def _as_stored(value: float) -> float | None:
    """The value as databases have it: infinity is the greatest number; None is not a number."""
    greatest = sys.float_info.max
    return None if math.isnan(value) else min(max(value, -greatest), greatest)


def _batches(entries: list[Any], size: int) -> Iterator[list[Any]]:
    for start in range(0, len(entries), size):
        yield entries[start : start + size]
