"""Run what a graph still lacks: one Ray task a node, side by side where the cluster allows.

A node that fails takes only the nodes behind it along. One whose process is lost, alone or with its
machine, is run again and goes on from what it left. That begins when Ray knows of the loss; a
machine that is cut off and not dead may work on for up to a minute until it notices. Whenever two
processes are at one output, two jobs on one storage for instance, they make the same files, each of
which appears whole: that costs time and spoils nothing.
"""

import importlib.metadata
import platform
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import ray
from ray.exceptions import (
    NodeDiedError,
    OutOfMemoryError,
    RayActorError,
    RayError,
    WorkerCrashedError,
)
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from pipeline.errors import is_for_user
from pipeline.graph.disk_space import require_space
from pipeline.graph.graph import Graph, Node
from pipeline.graph.stage import Resources, StageContext
from pipeline.redaction import redact
from pipeline.storage.artifacts import METRICS, Artifact
from pipeline.tracking import StageRun, TrackingSpec, start_stage

ERROR_LOG = "error.log"
# So often, at least, it is seen whether the cluster has grown.
LOOK_SECONDS = 5.0
# What Ray says of a stage's process that did not end by itself; within the stage it may be an actor
# of Ray's own, such as the one that guards training workers. Such a stage is run again, after so
# long that Ray has ended the workers it had started.
LOST = (NodeDiedError, OutOfMemoryError, WorkerCrashedError)
SETTLING_SECONDS = 3.0
LIBRARIES = ("numpy", "pyarrow", "ray", "torch", "torchaudio", "transformers")

Key = tuple[str, str]


@dataclass(frozen=True)
class NodeOutcome:
    """How one node ended. `error` is one message for the user; `log` holds the traceback.

    A `lost` one was cut off by a process that is gone, and is done again.
    """

    node: Node
    status: Literal["done", "failed", "skipped", "lost"]
    seconds: float = 0.0
    scores: Mapping[str, float] = field(default_factory=dict)
    error: str = ""
    log: str = ""


@dataclass(frozen=True)
class Outcome:
    """How the run ended, node by node, in the order they ended."""

    nodes: tuple[NodeOutcome, ...]

    @property
    def failed(self) -> tuple[NodeOutcome, ...]:
        return tuple(outcome for outcome in self.nodes if outcome.status == "failed")

    @property
    def skipped(self) -> tuple[NodeOutcome, ...]:
        return tuple(outcome for outcome in self.nodes if outcome.status == "skipped")


def execute(
    graph: Graph,
    runs: Mapping[str, TrackingSpec],
    say: Callable[[str], None],
) -> Outcome:
    """Run the graph's pending nodes; needs a running Ray.

    `runs` are the variants' MLflow runs (a shared node is a child of its first variant's); `say`
    gets a line when a node starts and when it ends.
    """
    execution = _Execution(graph, runs, say)
    try:
        while execution.waiting or execution.running:
            execution.start_ready()
            execution.collect()
    finally:
        execution.stop()
    return Outcome(tuple(execution.outcomes.values()))


@dataclass(frozen=True)
class _Running:
    """A node that a Ray task is at work on, since `started` (seconds of a clock that only runs)."""

    node: Node
    tracker: StageRun
    started: float


class _Execution:
    """The state of one `execute`: each pending node is waiting, running or has an outcome."""

    def __init__(
        self, graph: Graph, runs: Mapping[str, TrackingSpec], say: Callable[[str], None]
    ) -> None:
        self.waiting: dict[Key, Node] = {node.key: node for node in graph.pending()}
        self.running: dict[ray.ObjectRef[NodeOutcome], _Running] = {}
        self.outcomes: dict[Key, NodeOutcome] = {}
        self.losses: Counter[Key] = Counter()
        self.runs = runs
        self.say = say

    def start_ready(self) -> None:
        """Start every waiting node whose inputs are whole, as far as the CPUs and GPUs go."""
        unfinished = {one.node.key for one in self.running.values()} | self.waiting.keys()
        machines = _machines()
        # Stages with workers lead to the others, so they go first.
        ordered = sorted(self.waiting.values(), key=lambda node: node.workers == 0)
        for node in ordered:
            if unfinished.isdisjoint(node.inputs.items()) and self._has_room(node, machines):
                del self.waiting[node.key]
                self._start(node, machines)

    def _has_room(self, node: Node, machines: Sequence[Resources]) -> bool:
        """Whether CPUs and GPUs suffice for `node` and its workers beside what runs.

        Stages that together want more than there is could each hold half of what both need. One
        that wants more than there is at all runs alone, and Ray says what it waits for.
        """
        wanted = sum((one.node.resources for one in self.running.values()), node.resources)
        return not self.running or wanted.fits(sum(machines, Resources()))

    def _start(self, node: Node, machines: Sequence[Resources]) -> None:
        parent = self.runs.get(node.variants[0], TrackingSpec.disabled())
        tracker = start_stage(parent, node.stage.name, node.digest)
        tracker.log_params(node.description()["settings"])
        task = ray.remote(run_node).options(
            name=node.label, max_retries=0, **_place(node, machines)
        )
        self.say(f"{node.label} starts")
        settling = SETTLING_SECONDS if self.losses[node.key] else 0.0
        self.running[task.remote(node, tracker, settling)] = _Running(
            node, tracker, time.monotonic()
        )

    def collect(self) -> None:
        """Wait for the next node to end, but not for long; settle it, and what it takes along."""
        for reference in ray.wait(list(self.running), num_returns=1, timeout=LOOK_SECONDS)[0]:
            ended = self.running.pop(reference)
            try:
                outcome = ray.get(reference)
            except LOST as error:
                self._lose(ended, message(error))
            except RayError as error:
                seconds = time.monotonic() - ended.started
                self._settle(
                    NodeOutcome(ended.node, "failed", seconds, error=message(error)), ended
                )
            else:
                if outcome.status == "lost":
                    self._lose(ended, outcome.error)
                else:
                    self._settle(outcome, ended)

    def _lose(self, ended: _Running, error: str) -> None:
        """A process is gone (killed, out of memory, with its machine): let another go on."""
        node, why = ended.node, error.splitlines()[0]
        self.losses[node.key] += 1
        most = node.config.cluster.max_failures
        if self.losses[node.key] <= most:
            self.say(
                f"{node.label}: its process was lost ({why}); another goes on, loss "
                f"{self.losses[node.key]} of at most {most}"
            )
            self.waiting[node.key] = node
            return
        times = f" {self.losses[node.key]} times, more than cluster.max_failures" * bool(most)
        seconds = time.monotonic() - ended.started
        error_of_all = f"its process was lost{times}: {why}"
        self._settle(NodeOutcome(node, "failed", seconds, error=error_of_all), ended)

    def _settle(self, outcome: NodeOutcome, ended: _Running) -> None:
        node = outcome.node
        self.outcomes[node.key] = outcome
        if outcome.status == "done":
            ended.tracker.log_metrics(outcome.scores)
            ended.tracker.finish()
            self.say(f"{node.label} done in {outcome.seconds:.1f} s")
            return
        ended.tracker.finish("FAILED")
        self.say(f"{node.label} FAILED after {outcome.seconds:.1f} s: {outcome.error}")
        lost = {node.key}
        for reader in list(self.waiting.values()):
            if not lost.isdisjoint(reader.inputs.items()):
                lost.add(reader.key)
                del self.waiting[reader.key]
                self.outcomes[reader.key] = NodeOutcome(
                    reader, "skipped", error=f"it needs {node.label}, which failed"
                )

    def stop(self) -> None:
        """Cancel what still runs, after an interrupt."""
        for reference, one in self.running.items():
            ray.cancel(reference, force=True)
            one.tracker.finish("KILLED")


def _machines() -> list[Resources]:
    """What each machine of the cluster has, as of now."""
    found = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    return [Resources(one.get("CPU", 0.0), one.get("GPU", 0.0)) for one in found]


def _place(node: Node, machines: Sequence[Resources]) -> dict[str, Any]:
    """Where the stage's own process runs, and what it holds there, as Ray takes it.

    One that only starts workers stays with the driver: what they are given lives in its memory, so
    that a machine lost elsewhere costs workers, which Ray replaces, and never the stage.
    """
    if not node.stage.cpus:
        home = ray.get_runtime_context().get_node_id()
        beside = NodeAffinitySchedulingStrategy(home, soft=False)
        return {"num_cpus": 0, "num_gpus": node.stage.gpus, "scheduling_strategy": beside}
    largest = max((machine.cpus for machine in machines), default=1.0)
    return {"num_cpus": min(node.stage.cpus, largest or 1.0), "num_gpus": node.stage.gpus}


def run_node(node: Node, tracker: StageRun, settling_seconds: float) -> NodeOutcome:
    """Run one stage in this process; its scores and manifest are written when it ends well.

    What it reads stands by now, so that its estimate may say more than it did when the run began.
    After a loss it starts `settling_seconds` later. Nothing is done again that is whole by now: the
    lost process may have been at its very end, or another job may have made it.
    """
    time.sleep(settling_seconds)
    started = time.monotonic()
    output = node.artifact
    try:
        if output.is_complete():
            return NodeOutcome(node, "done", scores=output.metrics())
        output.delete(ERROR_LOG)
        output.sweep()
        require_space(node.config.storage, node.bytes_to_write(), node.estimate())
        context = StageContext(node.config, output, node.input_artifacts, tracker)
        scores = {name: float(value) for name, value in node.stage.run(context).items()}
        output.write_json(METRICS, scores)
        seconds = time.monotonic() - started
        output.finish({**node.description(), "seconds": seconds, "versions": versions()})
    except Exception as error:  # noqa: BLE001 - whatever a stage raises must not stop the others
        seconds = time.monotonic() - started
        if isinstance(error, RayActorError) and not error.actor_init_failed:
            return NodeOutcome(node, "lost", seconds, error=message(error))
        return NodeOutcome(node, "failed", seconds, error=message(error), log=_log(output))
    finally:
        tracker.flush()
    return NodeOutcome(node, "done", seconds, scores)


def _log(output: Artifact) -> str:
    """Write the traceback of the error at hand beside the output; its address."""
    try:
        with output.write(ERROR_LOG) as file:
            file.write(redact(traceback.format_exc()).encode())
    except Exception:  # noqa: BLE001 - a full disk or a storage out of reach: most often the error itself
        return ""
    return f"{output.uri}/{ERROR_LOG}"


def message(error: BaseException) -> str:
    """What a user needs to know: the project's own errors speak for themselves."""
    causes = [cause for cause in _causes(error) if not type(cause).__module__.startswith("ray.")]
    for cause in causes:
        if is_for_user(cause):
            return redact(str(cause))
    shown = causes[0] if causes else error
    return redact(f"{type(shown).__name__}: {shown}")


def _causes(error: BaseException) -> Iterator[BaseException]:
    """The error and all beneath it, through the wrappers in which Ray brings errors home."""
    yield error
    workers = getattr(error, "worker_failures", None)
    below = list(workers.values()) if isinstance(workers, dict) else []
    for cause in (getattr(error, "cause", None), error.__cause__, *below):
        if isinstance(cause, BaseException):
            yield from _causes(cause)


def versions() -> dict[str, str]:
    """Python's and the libraries' versions, as far as they are installed."""
    found = {"python": platform.python_version()}
    for name in LIBRARIES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found
