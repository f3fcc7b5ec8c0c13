"""Run a graph's pending nodes: one Ray task a node, side by side where the cluster has room.

When a node fails, only the nodes that read it are skipped. When its process is lost, alone or with
its machine, it runs again and resumes from what it had written, as soon as Ray reports the loss. A
machine that is cut off but alive may work on for up to a minute: two processes that write the same
output write the same files, and each file appears complete.

Where another run works on the same storage, this one makes what is free, and waits for what the
other makes (see `pipeline.storage.leases`).
"""

import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import ray
from ray.exceptions import NodeDiedError, OutOfMemoryError, RayError, WorkerCrashedError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from pipeline.graph.graph import Graph, Node
from pipeline.graph.stage import Resources
from pipeline.graph.stage_code import CODE, code_of
from pipeline.log.follow import Follower
from pipeline.log.stage_log import StageLog
from pipeline.progress import Display, Report
from pipeline.runtime.machines import Machines
from pipeline.runtime.node_run import NodeOutcome, Start, message, run_node
from pipeline.source_code import SourceCode
from pipeline.storage.leases import Leases
from pipeline.storage.owner import Owner
from pipeline.storage.provenance import provenance

# How often reports are shown, and machines that came or went are noticed.
POLL_SECONDS = 1.0
# What Ray raises when a stage's process did not end by itself. Such a stage runs again, after
# enough time for Ray to end the workers that the lost process had started.
LOST = (NodeDiedError, OutOfMemoryError, WorkerCrashedError)
SETTLING_SECONDS = 3.0
# How long a stage has to say what the loss of a machine means to it.
UNEXPLAINED_SECONDS = 30.0

Key = tuple[str, str]


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
    display: Display,
    started: Callable[[Node], None] = lambda _node: None,
) -> Outcome:
    """Run the graph's pending nodes; needs a running Ray.

    `build` makes the graph; it is called again when an output is complete that others await (see
    `Node.awaits`). `started` is told each node that starts.
    """
    with Leases(Owner.this_process()) as leases:
        execution = _Execution(build, display, started, leases)
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
    follower: Follower
    started: float


class _Execution:
    """The state of one `execute`: each pending node is waiting, running or has an outcome."""

    def __init__(
        self,
        build: Callable[[], Graph],
        display: Display,
        started: Callable[[Node], None],
        leases: Leases,
    ) -> None:
        self.build = build
        self.waiting: dict[Key, Node] = {}
        self.running: dict[ray.ObjectRef[NodeOutcome], _Running] = {}
        self.outcomes: dict[Key, NodeOutcome] = {}
        self.losses: Counter[Key] = Counter()
        self.display = display
        self.machines = Machines()
        self.started = started
        self.leases = leases
        self.holders: set[str] = set()
        self.provenance = provenance()
        self.code = SourceCode()
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
        """Start every waiting node whose inputs are complete, as far as CPUs and GPUs suffice.

        Where they do not, the autoscaler is asked for what is missing.
        """
        unfinished = {each.node.key for each in self.running.values()} | self.waiting.keys()
        machines = self.machines.look()
        # The other stages read what stages with workers write, so these go first.
        ordered = sorted(self.waiting.values(), key=lambda node: not node.uses_workers)
        without_room = []
        for node in ordered:
            if node.awaits:
                continue
            ready = node.key in self.waiting and unfinished.isdisjoint(node.inputs.items())
            if ready and not self._has_room(node, machines):
                without_room.append(node)
            elif ready and self._may_make(node):
                del self.waiting[node.key]
                self._start(node, machines)
        wanted = [each.node for each in self.running.values()] + without_room
        self.machines.ask([one for node in wanted for one in node.processes], machines)

    def _has_room(self, node: Node, machines: Sequence[Resources]) -> bool:
        """Whether CPUs and GPUs suffice for `node` and its workers beside what runs.

        Stages that together want more than there is could each hold half of what both need. A
        stage that wants more than there is at all runs alone, and waits for more machines.
        """
        wanted = sum((each.node.resources for each in self.running.values()), node.resources)
        return not self.running or wanted.fits(sum(machines, Resources()))

    def _may_make(self, node: Node) -> bool:
        """Whether it is left to this run to make the output; if another has made it, take it."""
        lease = self.leases.of(node.artifact)
        try:
            if not lease.take():
                if lease.holder not in self.holders:
                    self.holders.add(lease.holder)
                    self._tell(node.label, f"is being made by {lease.holder}: waits for it")
                return False
            if not node.artifact.is_complete():
                return True
            outcome = NodeOutcome(node, "done", scores=node.artifact.metrics())
        except OSError as error:
            outcome = NodeOutcome(node, "failed", error=message(error))
        lease.release()
        del self.waiting[node.key]
        how = outcome.error and f"FAILED: {outcome.error}"
        self._tell(node.label, how or f"was made by {lease.holder or 'another run'}")
        self._record(outcome)
        return False

    def _start(self, node: Node, machines: Sequence[Resources]) -> None:
        # What an earlier run has logged is not shown again.
        follower = Follower.of_what_comes(node.artifact)
        task = ray.remote(run_node).options(
            name=node.label, max_retries=0, **_ray_options(node, machines)
        )
        self.display.start(node.label)
        worker = node.worker_resources
        if node.uses_workers and not any(worker.fits(machine) for machine in machines):
            self._tell(node.label, f"waits for a machine with {worker}, which each worker needs")
        lease = self.leases.of(node.artifact)
        if lease.taken_from:
            self._tell(node.label, f"is taken over from {lease.taken_from}")
        settling = SETTLING_SECONDS if self.losses[node.key] or lease.taken_from else 0.0
        self.started(node)
        made_by = {**self.provenance, CODE: code_of(node, self.code)}
        reference = task.remote(node, Start(settling, lease.claim, made_by))
        self.running[reference] = _Running(node, follower, time.monotonic())

    def collect(self) -> None:
        """Wait for the next node to end, but not for long; show progress; record the outcome."""
        self._stand_back()
        ended_nodes = self._wait()
        self._report()
        for reference in ended_nodes:
            ended = self.running.pop(reference)
            self._show(ended, ended.follower.rest())
            try:
                outcome = ray.get(reference)
            except LOST as error:
                self._lose(ended, message(error))
            except RayError as error:
                seconds = time.monotonic() - ended.started
                self._settle(NodeOutcome(ended.node, "failed", seconds, error=message(error)))
            else:
                if outcome.status == "lost":
                    self._lose(ended, outcome.error)
                elif outcome.status == "taken":
                    self._wait_for_other(ended)
                else:
                    self._settle(outcome)

    def _wait(self) -> "list[ray.ObjectRef[NodeOutcome]]":
        if not self.running:  # all that is left, other runs make
            time.sleep(POLL_SECONDS)
            return []
        return ray.wait(list(self.running), num_returns=1, timeout=POLL_SECONDS)[0]

    def _stand_back(self) -> None:
        """Stop what another run has taken over, because this one was not heard of for too long."""
        for reference, ended in list(self.running.items()):
            if self.leases.of(ended.node.artifact).is_lost:
                ray.cancel(reference, force=True)
                del self.running[reference]
                self._wait_for_other(ended)

    def _wait_for_other(self, ended: _Running) -> None:
        self.leases.of(ended.node.artifact).release()
        self.display.end(ended.node.label, "stops: another run has not heard of this one for long")
        self.waiting[ended.node.key] = ended.node

    def _report(self) -> None:
        """Show what the stages have sent, and the machines that were lost."""
        for each in self.running.values():
            self._show(each, each.follower.poll())
        lost = self.machines.take_lost(UNEXPLAINED_SECONDS)
        if lost:
            labels = [each.node.label for each in self.running.values()]
            self.display.line(f"{', '.join(lost)} left the cluster; running: {', '.join(labels)}")

    def _show(self, running: _Running, items: Sequence[Report | str]) -> None:
        for item in items:
            if isinstance(item, str):
                self._tell(running.node.label, item)
            else:
                self.display.show(running.node.label, item)

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
        self._settle(NodeOutcome(node, "failed", seconds, error=error_of_all))

    def _settle(self, outcome: NodeOutcome) -> None:
        node = outcome.node
        if outcome.status == "done":
            shown = node.stage.headline_of(outcome.scores)
            self.display.end(node.label, f"done in {outcome.seconds:.1f} s{shown}")
        else:
            self.display.end(node.label, f"FAILED after {outcome.seconds:.1f} s: {outcome.error}")
            StageLog(node.artifact).failed(outcome.error)
        self.leases.of(node.artifact).release()
        self._record(outcome)

    def _record(self, outcome: NodeOutcome) -> None:
        """Keep the outcome; a failed node's readers are skipped, what awaited it is known now."""
        node = outcome.node
        self.outcomes[node.key] = outcome
        if outcome.status == "done":
            if node.stage.has_parts:
                graph = self.build()
                graph.check()
                self.take_nodes(graph)
            return
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
        for reference in self.running:
            ray.cancel(reference, force=True)
        self.machines.ask((), ())


def _ray_options(node: Node, machines: Sequence[Resources]) -> dict[str, Any]:
    """Where the stage's own process runs, and what it reserves there.

    A stage that only starts workers stays with the driver: the workers' arguments live in its
    memory, so that a machine lost elsewhere costs workers, which Ray replaces, and not the stage.
    """
    own = node.own_resources
    if not own.cpus:
        home = ray.get_runtime_context().get_node_id()
        strategy = NodeAffinitySchedulingStrategy(home, soft=False)
        return {"num_cpus": 0, "num_gpus": own.gpus, "scheduling_strategy": strategy}
    largest = max((machine.cpus for machine in machines), default=1.0)
    cpus = own.cpus if node.uses_workers else min(own.cpus, largest or 1.0)
    return {"num_cpus": cpus, "num_gpus": own.gpus}
