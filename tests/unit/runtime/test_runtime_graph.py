"""What a failed node tells its user, and which nodes may run side by side. Needs no cluster."""

import dataclasses
import errno
import os
from pathlib import Path

import pytest
from fsspec.implementations.local import LocalFileOpener
from ray.exceptions import RayTaskError
from ray.train import WorkerGroupError

from pipeline import space
from pipeline.artifacts import ArtifactError
from pipeline.config import Config, ConfigError
from pipeline.config_corpus import SyntheticCorpus
from pipeline.flow import Graph, Node
from pipeline.runtime import graph as runner
from pipeline.stage import Estimate, Stage
from pipeline.tracking import TrackingSpec


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
    assert runner.message(error) == expected


def node(name: str, cpus: float, *inputs: Node, workers: float = 0) -> Node:
    config = Config(
        variant="v",
        storage="/nowhere",
        corpus=SyntheticCorpus(),
        ssl={"model": "some/model", "revision": "0" * 40},
    )
    stage = Stage(name, 1, lambda _: {}, lambda _: {}, cpus=cpus, worker_cpus=lambda _: workers)
    return Node(stage, name, config, ("v",), {}, dict(one.key for one in inputs))


@pytest.fixture
def execution(monkeypatch):
    """An execution over given nodes on a machine of two CPUs, which only notes what it starts."""

    def make(*nodes: Node, cpus: int = 2):
        monkeypatch.setattr(runner.ray, "cluster_resources", lambda: {"CPU": cpus})
        made = runner._Execution(Graph(nodes), {}, [].append)

        def start(one: Node) -> None:
            made.running[one.key] = (one, None, 0.0)

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
        return Node(stage, "d", config, ("v",), {}, {})

    return make


def run_alone(one: Node) -> runner.NodeOutcome:
    return runner.run_node(one, TrackingSpec.disabled())


def test_a_stage_that_cannot_fit_does_not_start(alone, monkeypatch):
    started = []
    one = alone(lambda _: started.append(1) or {}, Estimate(3600.0, 5, 1000, 2))
    monkeypatch.setattr(space, "free_bytes", lambda _: 600)
    outcome = run_alone(one)
    assert outcome.status == "failed"
    assert "room for 1 of the 2 features.layers or 0.6 of the 1 hours" in outcome.error
    assert not started
    # What an earlier run left counts.
    with one.artifact.write("shard") as file:
        file.write(b"0" * 400)
    one.artifact.delete(runner.ERROR_LOG)
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
    return [one.stage.name for one, _, _ in execution.running.values()]


def test_stages_with_workers_go_first_and_side_by_side_where_the_cpus_suffice(execution):
    made = execution(node("light", 1), node("train", 0, workers=1), node("tune", 0, workers=1))
    assert running(made) == ["train", "tune"]
    del made.running["train", "train"]
    assert running(made) == ["tune", "light"]


def test_workers_that_take_all_cpus_leave_no_room(execution):
    made = execution(node("extract", 0, workers=2), node("a", 1), node("train", 0, workers=1))
    assert running(made) == ["extract"]
    made.running.clear()
    assert running(made) == ["train", "a"]


def test_light_stages_share_the_cpus(execution):
    made = execution(node("a", 1), node("b", 1), node("c", 1))
    assert running(made) == ["a", "b"]


def test_on_one_cpu_everything_runs_in_turn(execution):
    made = execution(node("train", 0, workers=1), node("a", 1), cpus=1)
    assert running(made) == ["train"]
    del made.running["train", "train"]
    assert running(made) == ["a"]


def test_a_stage_that_asks_for_more_than_there_is_runs_alone(execution):
    made = execution(node("greedy", 8), node("a", 1))
    assert running(made) == ["greedy"]


def test_a_node_waits_for_its_inputs(execution):
    first = node("first", 1)
    second = node("second", 1, first)
    made = execution(first, second)
    assert running(made) == ["first"]
    made.running.clear()
    assert running(made) == ["second"]


def test_an_outcome_tells_failed_from_skipped():
    done, failed, skipped = (
        runner.NodeOutcome(node(name, 1), name) for name in ("done", "failed", "skipped")
    )
    outcome = runner.Outcome((done, failed, skipped))
    assert outcome.failed == (failed,)
    assert outcome.skipped == (skipped,)
    assert dataclasses.replace(outcome, nodes=(done,)).failed == ()


def test_versions_name_what_is_installed(monkeypatch):
    monkeypatch.setattr(runner, "LIBRARIES", ("numpy", "no-such-library"))
    assert set(runner.versions()) == {"python", "numpy"}
