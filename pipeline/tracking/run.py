"""The MLflow run of a variant or a stage; it can be pickled to any process."""

import functools
import io
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, Self, TypeVar

from pipeline.redaction import flatten, redact
from pipeline.storage.folders import Folder
from pipeline.tracking.event import Event, Kind, RunName, Status
from pipeline.tracking.failure import one_line
from pipeline.tracking.sender import Sender

if TYPE_CHECKING:
    import numpy as np

STAGE_TAG = "pipeline.stage"
STAGE_DIGEST_TAG = "pipeline.stage_digest"
MEMBER_TAG = "pipeline.member"

_FLUSH_SECONDS = 10.0

_logger = logging.getLogger("pipeline.tracking")
_Run = TypeVar("_Run", bound="TrackingSpec")
_Arguments = ParamSpec("_Arguments")


def _never_stops_the_run(
    method: Callable[Concatenate[_Run, _Arguments], None],
) -> Callable[Concatenate[_Run, _Arguments], None]:
    """Skip `method` on a disabled run; turn any exception into one warning line."""

    @functools.wraps(method)
    def guarded(run: _Run, /, *args: _Arguments.args, **kwargs: _Arguments.kwargs) -> None:
        if not run.enabled:
            return
        try:
            method(run, *args, **kwargs)
        except Exception as error:  # noqa: BLE001 - tracking must never cost hours of training
            _warn_dropped(method.__name__, error)

    return guarded


def _warn_dropped(what: str, error: Exception) -> None:
    _logger.warning("MLflow: %s was dropped: %s", what, one_line(error))


def _numbers(metrics: Mapping[str, Any]) -> dict[str, float]:
    """The values that are numbers; a warning names each other one."""
    numbers = {}
    for name, value in metrics.items():
        try:
            numbers[str(name)] = float(value)
        except (ArithmeticError, TypeError, ValueError) as error:
            _warn_dropped(f"metric {name!r}", error)
    return numbers


@dataclass(frozen=True)
class TrackingSpec:
    """One MLflow run and its address; picklable. Used as is, the (parent) run of a variant.

    The methods queue their arguments and return: they neither raise nor wait for MLflow. A process
    that logs calls `flush` before it ends. On a disabled run they do nothing.
    """

    uri: str = field(repr=False)  # may hold credentials
    outbox_uri: str
    run: RunName
    enabled: bool = True
    # Of this process; a process that receives the pickled run starts its own.
    sender: Sender | None = field(default=None, repr=False, compare=False)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "sender": None}

    @classmethod
    def disabled(cls) -> Self:
        """A run that discards whatever is logged to it."""
        return cls("", "", RunName("", "", ()), enabled=False)

    @_never_stops_the_run
    def log_params(self, params: Mapping[str, Any]) -> None:
        """Log settings, nested ones as `a.b`, without secrets; the first value of a key is kept.

        MLflow's parameters cannot change, so a resumed run keeps those it started with.
        """
        self._put("params", flatten(params))

    @_never_stops_the_run
    def set_tags(self, tags: Mapping[str, str]) -> None:
        """Set MLflow tags, without secrets; a later value replaces an earlier one."""
        if tags:
            self._put("tags", {str(key): redact(str(value)) for key, value in tags.items()})

    @_never_stops_the_run
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Log values at `step`; a key that already has a value at `step` keeps it.

        A run that resumes from a checkpoint may therefore log its whole history again at little
        cost. Without a step the value is a final score: it is appended to the key's history, and
        the last one logged is shown.
        """
        self._put("metrics", {"step": step, "values": _numbers(metrics)})

    @_never_stops_the_run
    def log_figure(self, figure: Any, name: str) -> None:
        """Store a matplotlib figure as `name`, whose suffix names the format (`.png`)."""
        content = io.BytesIO()
        figure.savefig(content, format=Path(name).suffix.removeprefix("."))
        self._put("artifact", {"path": name}, content.getvalue())

    @_never_stops_the_run
    def log_file(self, local_path: str | Path, folder: str = "") -> None:
        """Store a local file, as it is now, under `folder` of the run's artifacts."""
        path = Path(local_path)
        name = f"{folder}/{path.name}" if folder else path.name
        self._put("artifact", {"path": name}, path.read_bytes())

    @_never_stops_the_run
    def log_bytes(self, content: bytes, name: str) -> None:
        """Store `content` as the file `name` of the run's artifacts."""
        self._put("artifact", {"path": name}, content)

    @_never_stops_the_run
    def log_audio(
        self, samples: "np.ndarray | Sequence[float]", sample_rate_hz: int, name: str
    ) -> None:
        """Store mono samples as a 16-bit WAV file `name` (`audio/x.wav`), clipped to [-1, 1]."""
        import numpy as np
        import soundfile

        clipped = np.clip(np.asarray(samples, dtype=np.float64), -1.0, 1.0)
        content = io.BytesIO()
        levels = np.round(clipped * 32767).astype(np.int16)
        soundfile.write(content, levels, sample_rate_hz, format="WAV", subtype="PCM_16")
        self._put("artifact", {"path": name}, content.getvalue())

    @_never_stops_the_run
    def log_tokenizer(self, folder: str | Path) -> None:
        """Store a tokenizer's folder as a logged model that `mlflow.pyfunc.load_model` reads.

        The folder, local or `s3://…`, is read when it is sent, so it must exist until then.
        """
        self._put("tokenizer", {"uri": Folder.at(str(folder)).uri})

    @_never_stops_the_run
    def start(self) -> None:
        """Mark the run as running, for the first time or again."""
        self._put("status", {"status": "RUNNING"})

    @_never_stops_the_run
    def finish(self, status: Status = "FINISHED") -> None:
        """End the run; it can be started again."""
        self._put("status", {"status": status})

    @_never_stops_the_run
    def flush(self, seconds: float = _FLUSH_SECONDS) -> None:
        """Wait up to `seconds` until everything this process logged is sent; call it before it ends.

        The rest goes to the storage, and is sent from there when MLflow is back.
        """
        self._sender().flush(seconds)

    def _put(self, kind: Kind, content: dict[str, Any], data: bytes = b"") -> None:
        self._sender().put(Event(self.run, kind, content, data))

    def _sender(self) -> Sender:
        sender = self.sender or Sender(self.uri, self.outbox_uri)
        object.__setattr__(self, "sender", sender)
        return sender


@dataclass(frozen=True)
class StageRun(TrackingSpec):
    """The run of one stage, a child of its variant's run."""


def start_stage(parent: TrackingSpec, stage: str, stage_digest: str, member: str = "") -> StageRun:
    """The child run of `stage` under `parent` with this digest: the existing one, or a new one.

    `member` (`seed 1`) tells the runs of a variant's members apart; empty if the stage is for all.
    """
    if not parent.enabled:
        return StageRun.disabled()
    own = ((MEMBER_TAG, member),) if member else ()
    tags = ((STAGE_TAG, stage), (STAGE_DIGEST_TAG, stage_digest), *own)
    shown = f"{stage}, {member}" if member else stage
    name = RunName(parent.run.experiment, shown, tags, parent=parent.run)
    run = StageRun(parent.uri, parent.outbox_uri, name, sender=parent.sender)
    run.start()
    return run
