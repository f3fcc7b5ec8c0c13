"""Which nodes run side by side, and which wait: for room, for inputs, for another run. Needs no cluster."""

import dataclasses

import pytest

from pipeline.config import Config
from pipeline.corpus.adapters.synthetic import SyntheticCorpus
from pipeline.graph.graph import Graph, Member, Node
from pipeline.graph.stage import Resources, Stage
from pipeline.progress import Report
from pipeline.runtime import machines as machines_of_ray
from pipeline.runtime import scheduler
from pipeline.runtime.node_run import NodeOutcome
from pipeline.storage import leases
from pipeline.storage.artifacts import MANIFEST, METRICS
from pipeline.storage.failures import StorageError
from pipeline.storage.leases import Lease, Leases
from pipeline.storage.owner import Owner


@pytest.fixture(autouse=True)
def storage(tmp_path, monkeypatch):
    """The nodes' storage, which is below the current folder."""
    monkeypatch.chdir(tmp_path)


def node(
    name: str, cpus: float, *inputs: Node, workers: int = 0, trains: bool = False, **cluster
) -> Node:
    config = Config(
        variant="v",
        storage="runs",
        corpus=SyntheticCorpus(),
        ssl={"model": "some/model", "revision": "0" * 40},
        cluster=cluster,
    )
    stage = Stage(
        name, 1, lambda _: {}, lambda _: {}, cpus=cpus, workers=lambda _: workers, trains=trains
    )
    return Node(stage, name, config, {"v": ()}, {}, dict(one.key for one in inputs))


def graph(*nodes: Node) -> Graph:
    return Graph((Member("", nodes[0].config, {node.name: node for node in nodes}),))


def machine(cpus: float, gpus: float = 0, *, alive: bool = True, name: str = "node") -> dict:
    """As Ray lists it; a machine without GPUs has no such entry."""
    resources = {"CPU": cpus, **({"GPU": gpus} if gpus else {})}
    return {"Alive": alive, "NodeID": name, "NodeName": name, "Resources": resources}


class Display:
    """Keeps what it is told."""

    def __init__(self):
        self.lines, self.reports, self.ends = [], [], []

    def start(self, label):
        self.lines.append(f"{label} starts")

    def show(self, label, report):
        self.reports.append((label, report))

    def end(self, label, text):
        self.ends.append(f"{label} {text}")

    def line(self, text):
        self.lines.append(text)


class Log:
    """A stage's log that holds what the test puts into it."""

    def __init__(self):
        self.items = []

    def poll(self):
        items, self.items = self.items, []
        return items


def execution_of(*nodes: Node) -> scheduler._Execution:
    held = Leases(Owner.this_process())
    return scheduler._Execution(lambda: graph(*nodes), Display(), lambda _: None, held)


@pytest.fixture
def execution(monkeypatch):
    """An execution over given nodes on a machine of two CPUs, which only notes what it starts."""

    def make(*nodes: Node, machines=None):
        monkeypatch.setattr(scheduler.ray, "nodes", lambda: machines or [machine(2)])
        monkeypatch.setattr(machines_of_ray, "request_resources", lambda **_asked: None)
        made = execution_of(*nodes)

        def start(one: Node, _machines) -> None:
            made.running[one.key] = scheduler._Running(one, Log(), 0.0)

        made._start = start
        return made

    return make


def running(execution) -> list[str]:
    execution.start_ready()
    return [each.node.stage.name for each in execution.running.values()]


def test_stages_with_workers_go_first_and_side_by_side_where_the_cpus_suffice(execution):
    made = execution(node("light", 1), node("train", 0, workers=1), node("tune", 0, workers=1))
    assert running(made) == ["train", "tune"]
    del made.running["train", "train"]
    assert running(made) == ["tune", "light"]


def test_a_stage_holds_its_own_cpus_only_where_no_workers_compute_for_it():
    assert node("alone", 1).resources == Resources(1)
    assert node("decode", 1, workers=2).resources == Resources(2)


def test_the_only_worker_of_a_training_is_its_own_process_on_any_machine():
    wide = {"cpus_per_worker": 2, "gpus_per_worker": 1}
    alone, with_peers = (
        node("train", 0, trains=True, training_workers=workers, **wide) for workers in (1, 2)
    )
    assert alone.processes == [Resources(2, 1)]
    assert with_peers.processes == [Resources(), Resources(2, 1), Resources(2, 1)]
    # It does not make do with less, as other stages do.
    assert scheduler._ray_options(alone, [Resources(1)]) == {"num_cpus": 2, "num_gpus": 1}


def test_a_training_goes_first_as_stages_with_workers_do(execution):
    made = execution(node("light", 1), node("train", 0, trains=True), machines=[machine(1)])
    assert running(made) == ["train"]


def test_workers_that_take_all_cpus_leave_no_room(execution):
    made = execution(node("extract", 0, workers=2), node("a", 1), node("train", 0, workers=1))
    assert running(made) == ["extract"]
    made.running.clear()
    assert running(made) == ["train", "a"]


def test_light_stages_share_the_cpus(execution):
    made = execution(node("a", 1), node("b", 1), node("c", 1))
    assert running(made) == ["a", "b"]


def test_on_one_cpu_everything_runs_in_turn(execution):
    made = execution(node("train", 0, workers=1), node("a", 1), machines=[machine(1)])
    assert running(made) == ["train"]
    del made.running["train", "train"]
    assert running(made) == ["a"]


def test_a_stage_that_asks_for_more_than_there_is_runs_alone(execution):
    made = execution(node("greedy", 8), node("a", 1))
    assert running(made) == ["greedy"]


def test_gpus_are_counted_as_cpus_are(execution):
    wide = {"cpus_per_worker": 1, "gpus_per_worker": 1}
    first, second = (node(name, 0, workers=2, **wide) for name in ("first", "second"))
    small = node("small", 0, workers=1, cpus_per_worker=1, gpus_per_worker=0.5)
    made = execution(first, second, small, node("a", 1), machines=[machine(64, 2), machine(64, 1)])
    assert running(made) == ["first", "small", "a"]
    del made.running["first", "first"]
    assert running(made) == ["small", "a", "second"]


def test_machines_that_come_and_go_are_seen(execution):
    machines = [machine(1), machine(1, alive=False)]
    nodes = [node(name, 0, workers=1) for name in "abc"]
    made = execution(*nodes, machines=machines)
    assert running(made) == ["a"]
    machines.append(machine(1))
    assert running(made) == ["a", "b"]
    machines.pop()
    del made.running["a", "a"]
    assert running(made) == ["b"]


def test_a_stage_asks_for_no_more_cpus_than_the_largest_machine_has():
    greedy = node("greedy", 8)
    machines = [Resources(1), Resources(4)]
    assert scheduler._ray_options(greedy, machines) == {"num_cpus": 4, "num_gpus": 0}
    assert scheduler._ray_options(greedy, [Resources(16)])["num_cpus"] == 8
    # A head that does no work, while the autoscaler has not started any machine yet.
    assert scheduler._ray_options(greedy, [Resources(0)])["num_cpus"] == 1


def log_of(made) -> Log:
    [running] = made.running.values()
    return running.follower


def test_reports_and_messages_are_shown_as_they_come(execution):
    made = execution(node("train", 0, workers=1))
    made.start_ready()
    log_of(made).items = [Report(1, 2, "epochs"), "goes on"]
    made._report()
    assert made.display.reports == [("train[v]", Report(1, 2, "epochs"))]
    assert made.display.lines == ["train[v] goes on"]


def test_a_lost_machine_is_one_line_with_what_the_stage_has_to_say(execution):
    machines = [machine(1, name="head"), machine(1, name="node-1")]
    made = execution(node("train", 0, workers=1), machines=machines)
    made.start_ready()
    machines[1]["Alive"] = False
    made.start_ready()
    made._report()
    assert made.display.lines == []
    log_of(made).items = ["goes on from epoch 1", "is well"]
    made._report()
    assert made.display.lines == [
        "node-1 lost; train[v] goes on from epoch 1",
        "train[v] is well",
    ]


def test_a_machine_that_no_stage_misses_has_left_the_cluster(execution, monkeypatch):
    machines = [machine(1, name="head"), machine(1, name="node-1")]
    made = execution(node("a", 1), machines=machines)
    made.start_ready()
    machines[1]["Alive"] = False
    made.start_ready()
    monkeypatch.setattr(scheduler, "UNEXPLAINED_SECONDS", 0.0)
    made._report()
    made._report()
    assert made.display.lines == ["node-1 left the cluster; running: a[v]"]


def test_a_stage_whose_process_is_lost_waits_to_start_again_until_it_is_too_often(execution):
    first = node("a", 1, max_failures=1)
    made = execution(first)
    made.start_ready()
    ended = made.running.pop(first.key)
    made._lose(ended, "the node died\nwith much detail")
    assert made.waiting == {first.key: first}
    made._lose(ended, "out of memory")
    assert made.display.lines == [
        "a[v] lost its process (the node died) and starts again, loss 1 of at most 1"
    ]
    assert made.outcomes[first.key].status == "failed"
    (end,) = made.display.ends
    assert end.endswith("lost 2 times, more than cluster.max_failures: out of memory")


def test_the_line_of_a_stages_end_has_its_headline_scores(execution):
    first = node("a", 1)
    first = dataclasses.replace(first, stage=dataclasses.replace(first.stage, headline=("wer",)))
    made = execution(first)
    scores = {"test.wer": 0.05123456, "wer": 1.0, "test.cer": 0.01}
    made._settle(NodeOutcome(first, "done", 2.0, scores))
    assert made.display.ends == ["a[v] done in 2.0 s, test.wer 0.05123, wer 1"]


@pytest.mark.parametrize("kind", [{"workers": 1}, {"trains": True}])
def test_a_worker_that_fits_on_no_machine_is_reported(monkeypatch, kind):
    monkeypatch.setattr(scheduler, "ray", FakeRay())
    wide = node("train", 0, **kind, cpus_per_worker=1, gpus_per_worker=1)
    made = execution_of(wide)
    made._start(wide, [Resources(8, 0)])
    assert made.display.lines == [
        "train[v] starts",
        "train[v] waits for a machine with 1 CPU, 1 GPU, which each worker needs",
    ]


class FakeRay:
    """Starts nothing."""

    def get_runtime_context(self):
        return self

    def get_node_id(self):
        return "0" * 56

    def remote(self, *_arguments):
        return self

    def options(self, **_options):
        return self


def test_the_autoscaler_is_asked_for_what_runs_and_what_waits_for_room(execution, monkeypatch):
    trains = node("train", 0, workers=2, cpus_per_worker=1)
    made = execution(trains, node("a", 1), node("b", 1, trains))
    asked = []
    monkeypatch.setattr(
        machines_of_ray, "request_resources", lambda *, bundles: asked.append(bundles)
    )
    assert running(made) == ["train"]
    assert asked == [[{"CPU": 1, "GPU": 0}] * 3]  # b waits for an input, and needs nothing yet
    made.running.clear()
    assert running(made) == ["a", "b"]
    assert asked[1:] == [[]]


def test_a_node_waits_for_its_inputs(execution):
    first = node("first", 1)
    second = node("second", 1, first)
    made = execution(first, second)
    assert running(made) == ["first"]
    made.running.clear()
    assert running(made) == ["second"]


def test_an_outcome_tells_failed_from_skipped():
    done, failed, skipped = (
        NodeOutcome(node(name, 1), name) for name in ("done", "failed", "skipped")
    )
    outcome = scheduler.Outcome((done, failed, skipped))
    assert outcome.failed == (failed,)
    assert outcome.skipped == (skipped,)
    assert dataclasses.replace(outcome, nodes=(done,)).failed == ()


@pytest.fixture
def elsewhere():
    return Owner(7, "node-3", "another boot", "python -m pipeline run demo")


def test_what_another_run_makes_is_waited_for_while_free_stages_start(
    execution, elsewhere, monkeypatch
):
    monkeypatch.setattr(leases, "LOOK_SECONDS", 0.0)
    monkeypatch.setattr(scheduler, "POLL_SECONDS", 0.0)
    train, tune, free = (node(name, 0, workers=1) for name in ("train", "tune", "free"))
    reader = node("reader", 1, train)
    theirs = [Lease(each.artifact, elsewhere) for each in (train, tune)]
    assert all(lease.take() for lease in theirs)
    made = execution(train, tune, free, reader)
    assert running(made) == ["free"]
    assert running(made) == ["free"]
    assert made.display.lines == [f"train[v] is being made by {elsewhere}: waits for it"]
    made.running.clear()

    train.artifact.write_json(METRICS, {"wer": 0.5})
    train.artifact.write_json(MANIFEST, {})
    theirs[0].release()
    assert running(made) == []
    made.collect()
    assert made.display.lines[1:] == [f"train[v] was made by {elsewhere}"]
    assert made.outcomes[train.key] == NodeOutcome(train, "done", scores={"wer": 0.5})
    assert running(made) == ["reader"]

    made.running.clear()
    theirs[1].release()  # it failed, or was stopped
    assert running(made) == ["tune"]


def test_an_output_that_was_made_since_the_plan_is_taken_as_it_is(execution):
    first = node("first", 1)
    made = execution(first)
    first.artifact.write_json(MANIFEST, {})
    assert running(made) == []
    assert made.display.lines == ["first[v] was made by another run"]
    assert not made.waiting


def test_a_storage_that_cannot_say_who_makes_an_output_fails_the_stage(execution, monkeypatch):
    def cut_off(_claim):
        raise StorageError("s3://b cannot be reached: check the network")

    first = node("first", 1)
    made = execution(first, node("second", 1, first))
    monkeypatch.setattr(leases.Claim, "newest", cut_off)
    assert running(made) == []
    assert made.display.lines == ["first[v] FAILED: s3://b cannot be reached: check the network"]
    assert [outcome.status for outcome in made.outcomes.values()] == ["failed", "skipped"]


@pytest.mark.parametrize("noticed_by", ["heartbeat", "the stage's end"])
def test_a_stage_that_another_run_has_taken_over_stops_and_waits(
    execution, elsewhere, monkeypatch, noticed_by
):
    cancelled = []
    monkeypatch.setattr(scheduler.ray, "cancel", lambda key, **_: cancelled.append(key))
    first = node("first", 1)
    made = execution(first)
    assert running(made) == ["first"]
    lease = made.leases.of(first.artifact)
    lease.claim.folder.delete(lease.claim.file(1))
    assert Lease(first.artifact, elsewhere).take()
    if noticed_by == "heartbeat":
        lease.beat()
        made._stand_back()
        assert cancelled == [first.key]
    else:
        made._wait_for_other(made.running.pop(first.key))
    assert made.display.ends == ["first[v] stops: another run has not heard of this one for long"]
    assert running(made) == []
    assert made.display.lines == [f"first[v] is being made by {elsewhere}: waits for it"]
