"""MLflow at one address: its experiments, and runs by their names. Its calls wait for an answer."""

import logging
import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from pipeline.redaction import redact
from pipeline.storage.atomic import aside_of
from pipeline.tracking.address import sqlite_path
from pipeline.tracking.failure import TrackingError
from pipeline.tracking.mlflow_run import MlflowRun
from pipeline.tracking.run_name import RunName
from pipeline.tracking.spelling import MAX_RUN_NAME_CHARACTERS, spell_tags, spell_text

if TYPE_CHECKING:
    from mlflow.entities import Run

PARENT_TAG = "mlflow.parentRunId"

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


class Tracker:
    """Experiments and runs at `uri`, created where they are missing. MLflow's errors are raised."""

    def __init__(self, uri: str) -> None:
        self.uri = uri
        self.forget()

    def forget(self) -> None:
        """Look for everything anew: it may have been deleted."""
        self._experiments: dict[str, str] = {}
        self._runs: dict[RunName, MlflowRun] = {}

    def ping(self, experiment: str) -> None:
        """Reach MLflow and its experiment.

        Raises:
            TrackingError: the experiment was deleted.
        """
        self._experiments.pop(experiment, None)
        self._experiment_id(experiment)

    def run(self, name: RunName, started_ms: Callable[[], int | None] = lambda: None) -> MlflowRun:
        """The run of this name; a new one has begun at `started_ms()`, or else now."""
        if name not in self._runs:
            found = self._find(name) or self._create(name, started_ms())
            self._runs[name] = MlflowRun(connect(self.uri), found)
        return self._runs[name]

    def _find(self, name: RunName) -> "Run | None":
        """The oldest run of this name."""
        found = connect(self.uri).search_runs(
            [self._experiment_id(name.experiment)],
            f"tags.`{name.digest_tag}` = '{name.digest}'",
            max_results=1,
            order_by=["attributes.start_time ASC", "attributes.run_id ASC"],
        )
        return next(iter(found), None)

    def _create(self, name: RunName, started_ms: int | None) -> "Run":
        client = connect(self.uri)
        parent = {PARENT_TAG: self.run(name.parent).run_id} if name.parent else {}
        created = client.create_run(
            self._experiment_id(name.experiment),
            start_time=started_ms,
            tags={**spell_tags(name.tags), **parent},
            run_name=spell_text(name.name, MAX_RUN_NAME_CHARACTERS) or "unnamed",
        )
        # Another driver may have created one at the same moment: all use the older one.
        first = self._find(name) or created
        if first.info.run_id != created.info.run_id:
            client.delete_run(created.info.run_id)
        return first

    def _experiment_id(self, name: str) -> str:
        if name not in self._experiments:
            self._experiments[name] = self._find_experiment(name)
        return self._experiments[name]

    def _find_experiment(self, name: str) -> str:
        from mlflow.exceptions import MlflowException

        _create_sqlite(self.uri)
        client = connect(self.uri)
        experiment = client.get_experiment_by_name(name)
        if experiment is None:
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
