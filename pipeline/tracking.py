"""MLflow: one parent run for each variant, one child run for each stage.

A run is named by plain strings (`TrackingSpec`, `StageRun`), so that it can be pickled to any
process and logged to from there; nothing depends on MLflow's notion of an active run. With several
training workers only rank 0 may log: that is the caller's business.

MLflow is imported inside the functions: planning a run needs none of it. Once a run has started, a
tracker that fails costs the values at hand and one warning line, never the run.
"""

import functools
import logging
import os
import tempfile
import time
import uuid
import wave
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Concatenate, Literal, ParamSpec, Self, TypeVar

from pipeline.config import Config, Tracking, digest
from pipeline.redaction import flatten, redact

if TYPE_CHECKING:
    import numpy as np

VARIANT_TAG = "pipeline.variant"
CONFIG_DIGEST_TAG = "pipeline.config_digest"
STAGE_TAG = "pipeline.stage"
STAGE_DIGEST_TAG = "pipeline.stage_digest"
PARENT_TAG = "mlflow.parentRunId"
NAME_TAG = "mlflow.runName"

Status = Literal["FINISHED", "FAILED", "KILLED"]

_TOKENIZER_TYPE = "speech-tokenizer"
_METRICS_PER_BATCH = 1000  # MLflow refuses more in one call
_PARAMS_PER_BATCH = 100

# Sections that change no result: they may differ between two runs of one variant.
_UNTRACKED_SECTIONS = ("storage", "tracking", "cluster")

_logger = logging.getLogger(__name__)
_Run = TypeVar("_Run", bound="TrackingSpec")
_Arguments = ParamSpec("_Arguments")


class TrackingError(RuntimeError):
    """The tracker cannot be used; the message says which one, why, and the cure."""


def _never_stops_the_run(
    method: Callable[Concatenate[_Run, _Arguments], None],
) -> Callable[Concatenate[_Run, _Arguments], None]:
    """Skip `method` on a disabled run; turn whatever it raises into one warning line."""

    @functools.wraps(method)
    def guarded(run: _Run, /, *args: _Arguments.args, **kwargs: _Arguments.kwargs) -> None:
        if not run.enabled:
            return
        try:
            method(run, *args, **kwargs)
        except Exception as error:  # noqa: BLE001 - a tracker must not cost hours of training
            _warn(f"{method.__name__} was dropped", error)

    return guarded


@dataclass(frozen=True)
class TrackingSpec:
    """One MLflow run and how to reach it; picklable. The variant's own (parent) run.

    Its methods never raise; on a disabled run they do nothing.
    """

    uri: str = field(repr=False)  # may hold credentials
    experiment_id: str
    run_id: str
    enabled: bool = True
    _last_steps: dict[str, int] = field(default_factory=dict, init=False, repr=False, compare=False)

    @classmethod
    def disabled(cls) -> Self:
        """A run that takes everything and keeps nothing."""
        return cls(uri="", experiment_id="", run_id="", enabled=False)

    def __getstate__(self) -> dict[str, Any]:
        # A worker that takes a dead one's place must ask the tracker which steps are there.
        return {**self.__dict__, "_last_steps": {}}

    @_never_stops_the_run
    def log_params(self, params: Mapping[str, Any]) -> None:
        """Log settings, nested ones as `a.b`; secrets are left out, a first value stands.

        MLflow's parameters cannot change, so that a resumed run keeps those it started with.
        """
        from mlflow.entities import Param

        client = _client(self.uri)
        known = client.get_run(self.run_id).data.params
        new = [Param(key, value) for key, value in flatten(params).items() if key not in known]
        for batch in _batches(new, _PARAMS_PER_BATCH):
            client.log_batch(self.run_id, params=batch)

    @_never_stops_the_run
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Log values at `step`; a key whose history already reaches `step` is skipped.

        So a run that resumes from a checkpoint logs no step twice. Without a step the value is a
        final score: it goes to the end of its history, and the last one logged counts.
        """
        from mlflow.entities import Metric

        client = _client(self.uri)
        now = int(time.time() * 1000)
        entries = []
        for key, value in metrics.items():
            last = self._last_step(client, key)
            if step is None or step > last:
                entries.append(
                    Metric(key, float(value), now, max(last, 0) if step is None else step)
                )
        for batch in _batches(entries, _METRICS_PER_BATCH):
            client.log_batch(self.run_id, metrics=batch)
        self._last_steps.update({entry.key: entry.step for entry in entries})

    def _last_step(self, client: Any, key: str) -> int:
        if key not in self._last_steps:
            history = client.get_metric_history(self.run_id, key)
            self._last_steps[key] = max((metric.step for metric in history), default=-1)
        return self._last_steps[key]

    @_never_stops_the_run
    def log_figure(self, figure: Any, name: str) -> None:
        """Store a matplotlib figure as `name`, whose suffix says the format (`.png`)."""
        _client(self.uri).log_figure(self.run_id, figure, name)

    @_never_stops_the_run
    def log_file(self, local_path: str | Path, folder: str = "") -> None:
        """Store a local file under `folder` of the run's artifacts."""
        _client(self.uri).log_artifact(self.run_id, str(local_path), folder or None)

    @_never_stops_the_run
    def log_audio(self, samples: "np.ndarray", sample_rate_hz: int, name: str) -> None:
        """Store mono samples in [-1, 1] as a 16-bit WAV file `name` (`audio/x.wav`)."""
        folder, _, leaf = name.rpartition("/")
        with tempfile.TemporaryDirectory() as scratch:
            path = Path(scratch, leaf)
            _write_wav(path, samples, sample_rate_hz)
            _client(self.uri).log_artifact(self.run_id, str(path), folder or None)

    @_never_stops_the_run
    def log_tokenizer(self, local_folder: str | Path) -> None:
        """Store a tokenizer's folder as a logged model that `mlflow.pyfunc.load_model` reads.

        It holds the folder, the few lines of code that load it, and nothing pickled.
        """
        _log_tokenizer(self, Path(local_folder).resolve())

    @_never_stops_the_run
    def finish(self, status: Status = "FINISHED") -> None:
        """Close the run; it can be taken up again."""
        _client(self.uri).set_terminated(self.run_id, status)


@dataclass(frozen=True)
class StageRun(TrackingSpec):
    """The run of one stage, a child of its variant's run."""

    parent_run_id: str = ""


def tracking_uri(tracking: Tracking, storage: str) -> str:
    """Where runs are logged: `MLFLOW_TRACKING_URI`, then `tracking.uri`, then SQLite.

    The SQLite file is `mlflow.db` in a local storage and `mlruns.db` in the current folder beside
    a remote one. Its path is absolute, since workers have current folders of their own.
    """
    local = Path(storage, "mlflow.db") if "://" not in storage else Path("mlruns.db")
    uri = os.environ.get("MLFLOW_TRACKING_URI") or tracking.uri or f"sqlite:///{local.resolve()}"
    prefix, _, path = uri.partition("sqlite:///")
    if prefix or not path or path.startswith(("/", ":memory:")):
        return uri
    return f"sqlite:///{Path(path).resolve()}"


def check(tracking: Tracking, storage: str) -> None:
    """Reach the tracker and make the experiment there, before any work starts.

    Raises:
        TrackingError: it cannot be reached or written to.
    """
    if not tracking.enabled:
        return
    uri = tracking_uri(tracking, storage)
    try:
        _experiment_id(uri, tracking.experiment)
    except TrackingError:
        raise
    except Exception as error:
        raise TrackingError(
            f"the MLflow tracker at {redact(uri)} cannot be used: {_one_line(error)}. Check "
            "MLFLOW_TRACKING_URI or tracking.uri, or switch it off with "
            "--set tracking.enabled=false"
        ) from error


def start_variant(config: Config, settings: Mapping[str, Any] | None = None) -> TrackingSpec:
    """The parent run of a variant: the one it had with these settings, or a new one.

    `settings` are what is logged as parameters and what tells two runs of one variant apart; by
    default the config without storage, tracking and cluster, which change no result.
    """
    if not config.tracking.enabled:
        return TrackingSpec.disabled()
    if settings is None:
        settings = config.model_dump(mode="json", exclude=set(_UNTRACKED_SECTIONS))
    try:
        uri = tracking_uri(config.tracking, config.storage)
        experiment_id = _experiment_id(uri, config.tracking.experiment)
        tags = {VARIANT_TAG: config.variant, CONFIG_DIGEST_TAG: digest(dict(settings))}
        run_id = _take_up(uri, experiment_id, config.variant, tags)
    except Exception as error:  # noqa: BLE001 - `check` is what stops a run that cannot be tracked
        _warn(f"variant {config.variant} is not tracked", error)
        return TrackingSpec.disabled()
    run = TrackingSpec(uri, experiment_id, run_id)
    run.log_params(settings)
    return run


def start_stage(parent: TrackingSpec, stage: str, stage_digest: str) -> StageRun:
    """The child run of `stage`: the one it had under `parent` with this digest, or a new one."""
    if not parent.enabled:
        return StageRun.disabled()
    tags = {PARENT_TAG: parent.run_id, STAGE_TAG: stage, STAGE_DIGEST_TAG: stage_digest}
    try:
        run_id = _take_up(parent.uri, parent.experiment_id, stage, tags)
    except Exception as error:  # noqa: BLE001 - a tracker must not cost hours of training
        _warn(f"stage {stage} is not tracked", error)
        return StageRun.disabled()
    return StageRun(parent.uri, parent.experiment_id, run_id, parent_run_id=parent.run_id)


def _client(uri: str) -> Any:
    # MLflow's own defaults: it sends usage statistics, draws progress bars, and waits minutes for
    # a dead server.
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "20")
    from mlflow import MlflowClient

    return MlflowClient(tracking_uri=uri)


def _experiment_id(uri: str, name: str) -> str:
    from mlflow.exceptions import MlflowException

    _create_sqlite(uri)
    client = _client(uri)
    found = client.get_experiment_by_name(name)
    if found is None:
        try:
            return str(client.create_experiment(name, artifact_location=_artifact_location(uri)))
        except MlflowException:
            # Another process may have made it in the meantime.
            found = client.get_experiment_by_name(name)
            if found is None:
                raise
    if found.lifecycle_stage != "active":
        raise TrackingError(
            f"the MLflow experiment '{name}' at {redact(uri)} was deleted: restore it with "
            f"`mlflow experiments restore -x {found.experiment_id}`, or set tracking.experiment"
        )
    return str(found.experiment_id)


def _sqlite_path(uri: str) -> Path | None:
    path = uri.removeprefix("sqlite:///").partition("?")[0]
    return None if path in (uri, "", ":memory:") else Path(path)


def _create_sqlite(uri: str) -> None:
    """Make a missing SQLite store aside and move it into place.

    MLflow builds its tables in many steps: two processes that do so at once, or one that is
    killed, leave a store that nobody can open.
    """
    path = _sqlite_path(uri)
    if path is None or path.exists():
        return
    aside = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.aside")
    try:
        _client(f"sqlite:///{aside}").search_experiments(max_results=1)
        path.hardlink_to(aside)
    except FileExistsError:
        pass  # another process was first
    finally:
        aside.unlink(missing_ok=True)


def _artifact_location(uri: str) -> str | None:
    """Beside the SQLite file; a server knows its own."""
    path = _sqlite_path(uri)
    return None if path is None else path.with_name("mlartifacts").as_uri()


def _take_up(uri: str, experiment_id: str, name: str, tags: dict[str, str]) -> str:
    """The id of the running again, or new, run that carries `tags`."""
    client = _client(uri)
    # MLflow's filter knows no escaped quotes; a digest, which has none, is always among the tags.
    wanted = " and ".join(
        f"tags.`{key}` = '{value}'" for key, value in tags.items() if "'" not in value
    )
    candidates = client.search_runs(
        [experiment_id], wanted, order_by=["attributes.start_time DESC"]
    )
    found = [run for run in candidates if tags.items() <= run.data.tags.items()]
    if not found:
        return str(client.create_run(experiment_id, tags={**tags, NAME_TAG: name}).info.run_id)
    run_id = str(found[0].info.run_id)
    client.update_run(run_id, status="RUNNING")
    return run_id


def _log_tokenizer(run: TrackingSpec, local_folder: Path) -> None:
    client = _client(run.uri)
    import mlflow.pyfunc
    from mlflow.entities import LoggedModelOutput
    from mlflow.models import Model

    logged = client.create_logged_model(
        run.experiment_id, name="tokenizer", source_run_id=run.run_id, model_type=_TOKENIZER_TYPE
    )
    # It warns that it cannot tell a signature from a list of arrays.
    logging.getLogger("mlflow.pyfunc").setLevel(logging.ERROR)
    with tempfile.TemporaryDirectory() as scratch:
        mlflow.pyfunc.save_model(
            f"{scratch}/model",
            python_model=str(Path(__file__).with_name("logged_tokenizer.py")),
            artifacts={"tokenizer": str(local_folder)},
            pip_requirements=["numpy", "safetensors", "torch", "torchaudio", "transformers"],
            mlflow_model=Model(run_id=run.run_id, model_id=logged.model_id),
        )
        client.log_model_artifacts(logged.model_id, f"{scratch}/model")
    client.finalize_logged_model(logged.model_id, "READY")
    client.log_outputs(run.run_id, [LoggedModelOutput(logged.model_id, step=0)])


def _batches(entries: list[Any], size: int) -> Iterator[list[Any]]:
    for start in range(0, len(entries), size):
        yield entries[start : start + size]


def _write_wav(path: Path, samples: "np.ndarray | Sequence[float]", sample_rate_hz: int) -> None:
    import numpy as np

    clipped = np.clip(np.asarray(samples, dtype=np.float64), -1.0, 1.0)
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(sample_rate_hz)
        file.writeframes(np.round(clipped * 32767).astype("<i2").tobytes())


def _warn(what: str, error: Exception) -> None:
    _logger.warning("MLflow: %s: %s", what, _one_line(error))


def _one_line(error: Exception) -> str:
    first = (str(error).strip() or "no message").splitlines()[0]
    return f"{type(error).__name__}: {redact(first)}"
