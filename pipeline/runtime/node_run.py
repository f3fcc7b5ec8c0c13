"""The run of one node, in the process of its own Ray task: its work, scores and manifest, or its error."""

import time
import traceback
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Literal

from ray.exceptions import RayActorError

from pipeline.errors import is_for_user
from pipeline.graph.disk_space import require_space
from pipeline.graph.graph import Node
from pipeline.graph.stage import StageContext
from pipeline.log.stage_log import StageLog
from pipeline.redaction import redact
from pipeline.storage.artifacts import ERROR_LOG, METRICS, Artifact
from pipeline.storage.leases import Claim
from pipeline.storage.provenance import versions


@dataclass(frozen=True)
class Start:
    """How the driver lets a node start: after which time, under whose claim to the output.

    `provenance` is for the manifest; a node's own process knows neither commit nor command.
    """

    settling_seconds: float = 0.0
    claim: Claim | None = None
    provenance: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class NodeOutcome:
    """How one node ended. `error` is one message for the user; `log` holds the traceback.

    A `lost` one ended because a process was lost, and runs again. A `taken` one was another run's
    by the end.
    """

    node: Node
    status: Literal["done", "failed", "skipped", "lost", "taken"]
    seconds: float = 0.0
    scores: Mapping[str, float] = field(default_factory=dict)
    error: str = ""
    log: str = ""


def run_node(node: Node, start: Start) -> NodeOutcome:
    """Run one stage in this process; its scores and manifest are written when it succeeds.

    Its inputs are complete by now, so its estimate may be better than when the run began. An output that is complete by now is kept: the lost
    process may have been at its very end. Once its claim has fallen, it has no right to finish.
    """
    time.sleep(start.settling_seconds)
    started = time.monotonic()
    output = node.artifact
    log = StageLog(output)
    try:
        if output.is_complete():
            return NodeOutcome(node, "done", scores=output.metrics())
        output.delete(ERROR_LOG)
        output.sweep()
        estimate = node.estimate()
        require_space(node.config.storage, node.bytes_to_write(estimate), estimate)
        log.started()
        inputs, split = node.input_artifacts, node.split
        context = StageContext(node.config, output, inputs, log, log.progress, split)
        scores = {name: float(value) for name, value in node.stage.run(context).items()}
        seconds = time.monotonic() - started
        if start.claim is not None and not start.claim.stands():
            return NodeOutcome(node, "taken", seconds)
        output.write_json(METRICS, scores)
        log.flush()
        output.finish(
            {**node.description(), "seconds": seconds, **start.provenance, "versions": versions()},
            node.stage.temporary(node.config),
        )
    except Exception as error:  # noqa: BLE001 - whatever a stage raises must not stop the others
        seconds = time.monotonic() - started
        if _is_taken(start.claim):  # two writers have met, which may have been the error
            return NodeOutcome(node, "taken", seconds)
        with suppress(Exception):  # the storage is often what has failed
            log.flush()
        if isinstance(error, RayActorError) and not error.actor_init_failed:
            return NodeOutcome(node, "lost", seconds, error=message(error))
        return NodeOutcome(node, "failed", seconds, error=message(error), log=_log(output))
    return NodeOutcome(node, "done", seconds, scores)


def _is_taken(claim: Claim | None) -> bool:
    """Whether another run is known to have taken the output over."""
    try:
        return claim is not None and not claim.stands()
    except OSError:
        return False


def _log(output: Artifact) -> str:
    """Write the current error's traceback beside the output; return its address."""
    try:
        with output.write(ERROR_LOG) as file:
            file.write(redact(traceback.format_exc()).encode())
    except Exception:  # noqa: BLE001 - a full or unreachable storage is often the error itself
        return ""
    return f"{output.uri}/{ERROR_LOG}"


def message(error: BaseException) -> str:
    """The project's own error where there is one, else the outermost that is not Ray's."""
    causes = [cause for cause in _causes(error) if not type(cause).__module__.startswith("ray.")]
    for cause in causes:
        if is_for_user(cause):
            return redact(str(cause))
    shown = causes[0] if causes else error
    return redact(f"{type(shown).__name__}: {shown}")


def _causes(error: BaseException) -> Iterator[BaseException]:
    """The error and all its causes, through the wrappers of Ray."""
    yield error
    workers = getattr(error, "worker_failures", None)
    below = list(workers.values()) if isinstance(workers, dict) else []
    for cause in (getattr(error, "cause", None), error.__cause__, *below):
        if isinstance(cause, BaseException):
            yield from _causes(cause)
