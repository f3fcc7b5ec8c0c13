"""Run a graph's pending nodes: one Ray task a node, side by side where the cluster has room.

When a node fails, only the nodes that read it are skipped. When its process is lost, alone or with
its machine, it runs again and resumes from what it had written, as soon as Ray reports the loss. A
machine that is cut off but alive may work on for up to a minute. Two processes that write the same
output, such as two jobs on one storage, write the same files, and each file appears complete: that
costs time and damages nothing.
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
from pipeline.progress import Display, Progress
from pipeline.redaction import redact
from pipeline.runtime.machines import Machines
from pipeline.runtime.progress_channel import ProgressChannel
from pipeline.storage.artifacts import ERROR_LOG, METRICS, Artifact
from pipeline.tracking import StageRun, TrackingSpec, start_stage

# How often reports are shown, and machines that came or went are noticed.
POLL_SECONDS = 1.0
# What Ray raises when a stage's process did not end by itself. Such a stage runs again, after
# enough time for Ray to end the workers that the lost process had started.
LOST = (NodeDiedError, OutOfMemoryError, WorkerCrashedError)
SETTLING_SECONDS = 3.0
# How long a stage has to say what the loss of a machine means to it.
UNEXPLAINED_SECONDS = 30.0
# How long the mailbox may take to answer.
ANSWER_SECONDS = 0.1
LIBRARIES = ("numpy", "pyarrow", "ray", "torch", "torchaudio", "transformers")

Key = tuple[str, str]


@dataclass(frozen=True)
class NodeOutcome:
    """How one node ended. `error` is one message for the user; `log` holds the traceback.

    A `lost` one ended because a process was lost, and runs again.
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
    build: Callable[[], Graph],
    runs: Mapping[str, TrackingSpec],
    display: Display,
) -> Outcome:
    """Run the graph's pending nodes; needs a running Ray.

    `build` makes the graph; it is called again when an output is complete that others await (see
    `Node.awaits`). `runs` are the variants' MLflow runs (a shared node is a child of its first
    variant's).
    """
    execution = _Execution(build, runs, display, ProgressChannel())
    try:
        while execution.waiting or execution.running:
            execution.start_ready()
            execution.collect()
    finally:
        execution.stop()
    return Outcome(tuple(execution.outcomes.values()))


@dataclass(frozen=True)
class _Running:
    """A node that a Ray task works on, since `started` (seconds of the monotonic clock)."""

    node: Node
    tracker: StageRun
    started: float


class _Execution:
    """The state of one `execute`: each pending node is waiting, running or has an outcome."""

    def __init__(
        self,
        build: Callable[[], Graph],
        runs: Mapping[str, TrackingSpec],
        display: Display,
        channel: ProgressChannel,
    ) -> None:
        self.build = build
        self.waiting: dict[Key, Node] = {}
        self.running: dict[ray.ObjectRef[NodeOutcome], _Running] = {}
        self.outcomes: dict[Key, NodeOutcome] = {}
        self.losses: Counter[Key] = Counter()
        self.runs = runs
        self.display = display
        self.machines = Machines()
        self.channel = channel
        self.take_nodes(build())

    def take_nodes(self, graph: Graph) -> None:
        """Wait for every pending node of the graph that is not known yet.

        A node that awaits an output takes part when its digest is final. Until then it only shows
        what cannot start if that output fails.
        """
        settled = self.outcomes.keys() | {each.node.key for each in self.running.values()}
        pending = {node.key: node for node in graph.pending()}
        self.waiting = {key: node for key, node in pending.items() if key not in settled}

    def start_ready(self) -> None:
        """Start every waiting node whose inputs are complete, as far as CPUs and GPUs suffice."""
        unfinished = {each.node.key for each in self.running.values()} | self.waiting.keys()
        machines = self.machines.look()
        # The other stages read what stages with workers write, so these go first.
        ordered = sorted(self.waiting.values(), key=lambda node: node.workers == 0)
        for node in ordered:
            if node.awaits:
                continue
            if unfinished.isdisjoint(node.inputs.items()) and self._has_room(node, machines):
                del self.waiting[node.key]
                self._start(node, machines)

    def _has_room(self, node: Node, machines: Sequence[Resources]) -> bool:
        """Whether CPUs and GPUs suffice for `node` and its workers beside what runs.

        Stages that together want more than there is could each hold half of what both need. A
        stage that wants more than there is at all runs alone, and waits for more machines.
        """
        wanted = sum((each.node.resources for each in self.running.values()), node.resources)
        return not self.running or wanted.fits(sum(machines, Resources()))

    def _start(self, node: Node, machines: Sequence[Resources]) -> None:
        parent = self.runs.get(node.config.variant, TrackingSpec.disabled())
        tracker = start_stage(parent, node.name, node.digest, node.member)
        tracker.log_params(node.description()["settings"])
        task = ray.remote(run_node).options(
            name=node.label, max_retries=0, **_ray_options(node, machines)
        )
        self.display.start(node.label)
        worker = node.worker_resources
        if node.workers and not any(worker.fits(machine) for machine in machines):
            self._tell(node.label, f"waits for a machine with {worker}, which each worker needs")
        settling = SETTLING_SECONDS if self.losses[node.key] else 0.0
        progress = self.channel.progress(node.label)
        reference = task.remote(node, tracker, progress, settling)
        self.running[reference] = _Running(node, tracker, time.monotonic())

    def collect(self) -> None:
        """Wait for the next node to end, but not for long; show progress; record the outcome."""
        ended_nodes = ray.wait(list(self.running), num_returns=1, timeout=POLL_SECONDS)[0]
        self._report()
        for reference in ended_nodes:
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

    def _report(self) -> None:
        """Show what the stages have sent, and the machines that were lost."""
        for label, item in self.channel.poll(ANSWER_SECONDS):
            if isinstance(item, str):
                self._tell(label, item)
            else:
                self.display.show(label, item)
        lost = self.machines.take_lost(UNEXPLAINED_SECONDS)
        if lost:
            labels = [each.node.label for each in self.running.values()]
            self.display.line(f"{', '.join(lost)} left the cluster; running: {', '.join(labels)}")

    def _tell(self, label: str, text: str) -> None:
        """A line for a stage's message, which explains what a lost machine means to it."""
        lost = [f"{name} lost" for name in self.machines.take_lost()]
        self.display.line("; ".join([*lost, f"{label} {text}"]))

    def _lose(self, ended: _Running, error: str) -> None:
        """Run a node again whose process is gone: killed, out of memory, or with its machine."""
        node, why = ended.node, error.splitlines()[0]
        self.losses[node.key] += 1
        most = node.config.cluster.max_failures
        if self.losses[node.key] <= most:
            loss = f"loss {self.losses[node.key]} of at most {most}"
            self._tell(node.label, f"lost its process ({why}) and starts again, {loss}")
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
            shown = node.stage.headline_of(outcome.scores)
            self.display.end(node.label, f"done in {outcome.seconds:.1f} s{shown}")
            if node.stage.has_parts:
                graph = self.build()
                graph.check()
                self.take_nodes(graph)
            return
        ended.tracker.finish("FAILED")
        self.display.end(node.label, f"FAILED after {outcome.seconds:.1f} s: {outcome.error}")
        missing = {node.key}
        for reader in list(self.waiting.values()):
            if not missing.isdisjoint(reader.inputs.items()):
                missing.add(reader.key)
                del self.waiting[reader.key]
                self.outcomes[reader.key] = NodeOutcome(
                    reader, "skipped", error=f"it needs {node.label}, which failed"
                )

    def stop(self) -> None:
        """Cancel what still runs, after an interrupt."""
        for reference, running in self.running.items():
            ray.cancel(reference, force=True)
            running.tracker.finish("KILLED")
        self.channel.close()


def _ray_options(node: Node, machines: Sequence[Resources]) -> dict[str, Any]:
    """Where the stage's own process runs, and what it reserves there.

    A stage that only starts workers stays with the driver: the workers' arguments live in its
    memory, so that a machine lost elsewhere costs workers, which Ray replaces, and not the stage.
    """
    if not node.cpus:
        home = ray.get_runtime_context().get_node_id()
        strategy = NodeAffinitySchedulingStrategy(home, soft=False)
        return {"num_cpus": 0, "num_gpus": node.stage.gpus, "scheduling_strategy": strategy}
    largest = max((machine.cpus for machine in machines), default=1.0)
    return {"num_cpus": min(node.cpus, largest or 1.0), "num_gpus": node.stage.gpus}


def run_node(
    node: Node, tracker: StageRun, progress: Progress, settling_seconds: float
) -> NodeOutcome:
    """Run one stage in this process; its scores and manifest are written when it succeeds.

    Its inputs are complete by now, so its estimate may be better than when the run began. After a
    loss it starts `settling_seconds` later. An output that is complete by now is kept: the lost
    process may have been at its very end, or another job may have written it.
    """
    time.sleep(settling_seconds)
    started = time.monotonic()
    output = node.artifact
    try:
        if output.is_complete():
            return NodeOutcome(node, "done", scores=output.metrics())
        output.delete(ERROR_LOG)
        output.sweep()
        estimate = node.estimate()
        require_space(node.config.storage, node.bytes_to_write(estimate), estimate)
        inputs, split = node.input_artifacts, node.split
        context = StageContext(node.config, output, inputs, tracker, progress, split)
        scores = {name: float(value) for name, value in node.stage.run(context).items()}
        output.write_json(METRICS, scores)
        seconds = time.monotonic() - started
        output.finish(
            {**node.description(), "seconds": seconds, "versions": versions()},
            node.stage.temporary(node.config),
        )
    except Exception as error:  # noqa: BLE001 - whatever a stage raises must not stop the others
        seconds = time.monotonic() - started
        if isinstance(error, RayActorError) and not error.actor_init_failed:
            return NodeOutcome(node, "lost", seconds, error=message(error))
        return NodeOutcome(node, "failed", seconds, error=message(error), log=_log(output))
    finally:
        tracker.flush()
    return NodeOutcome(node, "done", seconds, scores)


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


def versions() -> dict[str, str]:
    """The versions of Python and of the libraries that are installed."""
    versions = {"python": platform.python_version()}
    for name in LIBRARIES:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return versions
