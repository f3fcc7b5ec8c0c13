"""Run what a graph still lacks: one Ray task a node, side by side where the machine allows.

A node that fails takes only the nodes behind it along.
"""

import importlib.metadata
import platform
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

import ray

from pipeline.artifacts import METRICS, ArtifactError
from pipeline.errors import is_for_user
from pipeline.flow import Graph, Node
from pipeline.redaction import redact
from pipeline.space import require_space
from pipeline.stage import StageContext
from pipeline.tracking import StageRun, TrackingSpec, start_stage

ERROR_LOG = "error.log"
LIBRARIES = ("numpy", "pyarrow", "ray", "torch", "torchaudio", "transformers")

Key = tuple[str, str]


@dataclass(frozen=True)
class NodeOutcome:
    """How one node ended. `error` is one message for the user; `log` holds the traceback."""

    node: Node
    status: Literal["done", "failed", "skipped"]
    seconds: float = 0.0
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


class _Execution:
    """The state of one `execute`: each pending node is waiting, running or has an outcome."""

    def __init__(
        self, graph: Graph, runs: Mapping[str, TrackingSpec], say: Callable[[str], None]
    ) -> None:
        self.waiting: dict[Key, Node] = {node.key: node for node in graph.pending()}
        self.running: dict[ray.ObjectRef, tuple[Node, StageRun, float]] = {}
        self.outcomes: dict[Key, NodeOutcome] = {}
        self.runs = runs
        self.say = say
        self.cpus = float(ray.cluster_resources().get("CPU", 1))

    def start_ready(self) -> None:
        """Start every waiting node whose inputs are whole, as far as the CPUs go."""
        unfinished = {node.key for node, _, _ in self.running.values()} | self.waiting.keys()
        # Stages with workers lead to the others, so they go first.
        ordered = sorted(self.waiting.values(), key=lambda node: node.worker_cpus == 0)
        for node in ordered:
            if unfinished.isdisjoint(node.inputs.items()) and self._has_room(node):
                del self.waiting[node.key]
                self._start(node)

    def _has_room(self, node: Node) -> bool:
        """Whether the CPUs suffice for `node` and its workers beside what runs.

        Stages that together want more than there is could each hold half of what both need. One
        that wants more than there is at all runs alone, and Ray says what it waits for.
        """
        busy = sum(running.cpus for running, _, _ in self.running.values())
        return not self.running or busy + node.cpus <= self.cpus

    def _start(self, node: Node) -> None:
        parent = self.runs.get(node.variants[0], TrackingSpec.disabled())
        tracker = start_stage(parent, node.stage.name, node.digest)
        tracker.log_params(node.description()["settings"])
        task = ray.remote(run_node).options(
            name=node.label,
            num_cpus=min(node.stage.cpus, self.cpus),
            num_gpus=node.stage.gpus,
            max_retries=0,
        )
        self.say(f"{node.label} starts")
        self.running[task.remote(node, tracker)] = (node, tracker, time.monotonic())

    def collect(self) -> None:
        """Wait for the next node to end; settle it, and what it takes along."""
        for reference in ray.wait(list(self.running), num_returns=1)[0]:
            node, tracker, started = self.running.pop(reference)
            try:
                outcome = ray.get(reference)
            except ray.exceptions.RayError as error:
                # The process is gone (killed, out of memory), so it could not tell itself.
                lines = message(error).splitlines()
                seconds = time.monotonic() - started
                outcome = NodeOutcome(node, "failed", seconds, f"its process was lost: {lines[0]}")
            self._settle(outcome, tracker)

    def _settle(self, outcome: NodeOutcome, tracker: StageRun) -> None:
        node = outcome.node
        self.outcomes[node.key] = outcome
        if outcome.status == "done":
            tracker.log_metrics(node.artifact.metrics())
            tracker.finish()
            self.say(f"{node.label} done in {outcome.seconds:.1f} s")
            return
        tracker.finish("FAILED")
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
        for reference, (_, tracker, _) in self.running.items():
            ray.cancel(reference, force=True)
            tracker.finish("KILLED")


def run_node(node: Node, tracker: StageRun) -> NodeOutcome:
    """Run one stage in this process; its scores and manifest are written when it ends well.

    What it reads stands by now, so that its estimate may say more than it did when the run began.
    """
    started = time.monotonic()
    output = node.artifact
    output.delete(ERROR_LOG)
    output.sweep()
    try:
        require_space(node.config.storage, node.bytes_to_write(), node.estimate())
        context = StageContext(node.config, output, node.input_artifacts, tracker)
        scores = node.stage.run(context)
        output.write_json(METRICS, {name: float(value) for name, value in scores.items()})
        seconds = time.monotonic() - started
        output.finish({**node.description(), "seconds": seconds, "versions": versions()})
    except Exception as error:  # noqa: BLE001 - whatever a stage raises must not stop the others
        seconds, log = time.monotonic() - started, f"{output.uri}/{ERROR_LOG}"
        try:
            with output.write(ERROR_LOG) as file:
                file.write(redact(traceback.format_exc()).encode())
        except (ArtifactError, OSError):  # a full disk, say, which is the error itself
            log = ""
        return NodeOutcome(node, "failed", seconds, message(error), log)
    finally:
        tracker.flush()
    return NodeOutcome(node, "done", seconds)


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
