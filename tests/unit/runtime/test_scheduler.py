"""What a failed node tells its user, and which nodes may run side by side. Needs no cluster."""

import dataclasses
import errno
import os
from pathlib import Path

import pytest
from fsspec.implementations.local import LocalFileOpener
from ray.exceptions import ActorDiedError, RayTaskError
from ray.train import WorkerGroupError

from pipeline.config import Config, ConfigError
from pipeline.corpus.adapters.synthetic import SyntheticCorpus
from pipeline.graph import disk_space
from pipeline.graph.graph import Graph, Member, Node
from pipeline.graph.stage import Estimate, Resources, Stage
from pipeline.progress import SILENT, Report
from pipeline.runtime import scheduler
from pipeline.storage.artifacts import Artifact, ArtifactError
from pipeline.storage.failures import StorageError
from pipeline.tracking import StageRun, TrackingSpec


def brought_home(cause: Exception) -> Exception:
    """As Ray raises an error of a remote task: an instance of both its own and the cause's class."""
    return RayTaskError("run", "Traceback ...", cause, pid=1, ip="0").as_instanceof_cause()


def chained(error: Exception, cause: Exception) -> Exception:
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (ConfigError("set x"), "set x"),
        (ZeroDivisionError("no frames"), "ZeroDivisionError: no frames"),
        (brought_home(ArtifactError("it is gone")), "it is gone"),
        (brought_home(ZeroDivisionError("no frames")), "ZeroDivisionError: no frames"),
        (WorkerGroupError("trace", {0: ArtifactError("it is gone")}), "it is gone"),
        (WorkerGroupError("trace", {1: brought_home(KeyError("a"))}), "KeyError: 'a'"),
        (chained(RuntimeError("stage"), ConfigError("set x")), "set x"),
        (chained(RuntimeError("reading"), OSError("disk")), "RuntimeError: reading"),
    ],
)
def test_the_message_is_the_projects_own_or_the_outermost_one(error, expected):
    assert scheduler.message(error) == expected


def node(name: str, cpus: float, *inputs: Node, workers: int = 0, **cluster) -> Node:
    config = Config(
        variant="v",
        storage="/nowhere",
        corpus=SyntheticCorpus(),
        ssl={"model": "some/model", "revision": "0" * 40},
        cluster=cluster,
    )
    stage = Stage(name, 1, lambda _: {}, lambda _: {}, cpus=cpus, workers=lambda _: workers)
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


class Channel:
    """A mailbox that holds what the test puts into it."""

    def __init__(self):
        self.items = []

    def poll(self, _seconds):
        items, self.items = self.items, []
        return items

    def progress(self, _label):
        return SILENT


@pytest.fixture
def execution(monkeypatch):
    """An execution over given nodes on a machine of two CPUs, which only notes what it starts."""

    def make(*nodes: Node, machines=None):
        monkeypatch.setattr(scheduler.ray, "nodes", lambda: machines or [machine(2)])
        made = scheduler._Execution(lambda: graph(*nodes), {}, Display(), Channel())

        def start(one: Node, _machines) -> None:
            made.running[one.key] = scheduler._Running(one, None, 0.0)

        made._start = start
        return made

    return make


NOTHING_KNOWN = Estimate()


@pytest.fixture
def alone(tmp_path):
    """A node over `run` that stores under `tmp_path`."""

    def make(run, estimate=NOTHING_KNOWN):
        config = node("extract", 1).config.model_copy(update={"storage": str(tmp_path)})
        stage = Stage("extract", 1, lambda _: {}, run, estimate=lambda *_: estimate)
        return Node(stage, "d", config, {"v": ()}, {}, {})

    return make


def run_alone(one: Node) -> scheduler.NodeOutcome:
    return scheduler.run_node(one, TrackingSpec.disabled(), SILENT, 0.0)


def test_a_stage_that_cannot_fit_does_not_start(alone, monkeypatch):
    started = []
    one = alone(
        lambda _: started.append(1) or {}, Estimate(3600.0, 5, 1000, {"layers": 2, "hours": 1.0})
    )
    monkeypatch.setattr(disk_space, "free_bytes", lambda _: 600)
    outcome = run_alone(one)
    assert outcome.status == "failed"
    assert "room for 1 of the 2 layers or 0.6 of the 1 hours" in outcome.error
    assert not started
    # What an earlier run left counts.
    with one.artifact.write("shard") as file:
        file.write(b"0" * 400)
    one.artifact.delete(scheduler.ERROR_LOG)
    assert run_alone(one).status == "done"


def test_a_full_disk_is_the_error_even_if_no_log_can_be_written(alone, monkeypatch):
    def fill(context):
        context.output.write_json("half.json", 1)
        monkeypatch.setattr(LocalFileOpener, "write", _no_space)
        context.output.write_json("whole.json", 2)

    one = alone(fill)
    outcome = run_alone(one)
    assert outcome.status == "failed"
    assert "no space left to write" in outcome.error
    assert outcome.log == ""
    assert [path.name for path in Path(one.artifact.path()).iterdir()] == ["half.json"]


def test_a_storage_out_of_reach_is_the_error_and_no_more_is_tried_than_that(alone, monkeypatch):
    def cut_off(self, *_arguments):
        raise StorageError(f"{self.uri} cannot be reached: check the network")

    one = alone(lambda _: {"score": 1.0})
    for method in ("delete", "write", "write_json"):
        monkeypatch.setattr(Artifact, method, cut_off)
    outcome = run_alone(one)
    assert outcome.status == "failed"
    assert outcome.error == f"{one.artifact.uri} cannot be reached: check the network"
    assert outcome.log == ""


def test_what_another_process_has_made_meanwhile_is_not_made_again(alone):
    runs = []
    one = alone(lambda _: runs.append(1) or {"score": 1.0})
    assert run_alone(one).scores == {"score": 1.0}
    again = run_alone(one)
    assert (again.status, again.scores) == ("done", {"score": 1.0})
    assert len(runs) == 1


def test_a_helper_of_rays_that_is_gone_is_a_loss_and_one_that_cannot_start_an_error(alone):
    def lose(cause):
        def run(_context):
            raise ActorDiedError(cause)

        return run_alone(alone(run))

    lost = lose(None)
    assert (lost.status, lost.log) == ("lost", "")
    failed = lose(RayTaskError("init", "Traceback ...", ZeroDivisionError(), pid=1, ip="0"))
    assert failed.status == "failed"
    assert failed.log


def _no_space(*_arguments):
    raise OSError(errno.ENOSPC, "No space left on device")


def test_what_killed_writers_left_is_swept_away_and_nothing_else(alone):
    one = alone(lambda _: {"score": 1.0})
    folder = Path(one.artifact.path("shards"))
    (folder / ".old.12ab.aside").mkdir(parents=True)
    for name in (".a.parquet.12ab.aside", ".b.parquet.34cd.aside", "c.parquet"):
        (folder / name).write_text("half")
    for path in folder.iterdir():
        if path.name != ".b.parquet.34cd.aside":  # another process is at work on it
            os.utime(path, (0, 0))
    run_alone(one)
    assert sorted(path.name for path in folder.iterdir()) == [
        ".b.parquet.34cd.aside",
        "c.parquet",
    ]


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


def test_reports_and_messages_are_shown_as_they_come(execution):
    made = execution(node("train", 0, workers=1))
    made.channel.items = [("train[v]", Report(1, 2, "epochs")), ("train[v]", "goes on")]
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
    made.channel.items = [("train[v]", "goes on from epoch 1"), ("train[v]", "is well")]
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
    ended = dataclasses.replace(made.running.pop(first.key), tracker=StageRun.disabled())
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
    ended = scheduler._Running(first, StageRun.disabled(), 0.0)
    scores = {"test.wer": 0.05123456, "wer": 1.0, "test.cer": 0.01}
    made._settle(scheduler.NodeOutcome(first, "done", 2.0, scores), ended)
    assert made.display.ends == ["a[v] done in 2.0 s, test.wer 0.05123, wer 1"]


def test_a_worker_that_fits_on_no_machine_is_reported(monkeypatch):
    monkeypatch.setattr(scheduler, "ray", FakeRay())
    wide = node("train", 0, workers=1, cpus_per_worker=1, gpus_per_worker=1)
    made = scheduler._Execution(lambda: graph(wide), {}, Display(), Channel())
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


def test_a_node_waits_for_its_inputs(execution):
    first = node("first", 1)
    second = node("second", 1, first)
    made = execution(first, second)
    assert running(made) == ["first"]
    made.running.clear()
    assert running(made) == ["second"]


def test_an_outcome_tells_failed_from_skipped():
    done, failed, skipped = (
        scheduler.NodeOutcome(node(name, 1), name) for name in ("done", "failed", "skipped")
    )
    outcome = scheduler.Outcome((done, failed, skipped))
    assert outcome.failed == (failed,)
    assert outcome.skipped == (skipped,)
    assert dataclasses.replace(outcome, nodes=(done,)).failed == ()


def test_versions_name_what_is_installed(monkeypatch):
    monkeypatch.setattr(scheduler, "LIBRARIES", ("numpy", "no-such-library"))
    assert set(scheduler.versions()) == {"python", "numpy"}
