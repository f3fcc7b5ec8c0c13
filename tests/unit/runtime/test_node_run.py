"""One node in its own process: what it writes, and what a failed one tells its user. Needs no Ray."""

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
from pipeline.graph.graph import Node
from pipeline.graph.stage import Estimate, Stage
from pipeline.runtime import node_run
from pipeline.storage.artifacts import ERROR_LOG, MANIFEST, METRICS, Artifact, ArtifactError
from pipeline.storage.failures import StorageError
from pipeline.storage.leases import Lease
from pipeline.storage.owner import Owner
from pipeline.storage.provenance import versions


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
    assert node_run.message(error) == expected


NOTHING_KNOWN = Estimate()
ORIGIN = {
    "commit": "0" * 40,
    "local_changes": True,
    "command": "python -m pipeline run demo",
    "versions": {"torch": "that of the driver"},
}


@pytest.fixture
def alone(tmp_path):
    """A node over `run` that stores under `tmp_path`."""

    def make(run, estimate=NOTHING_KNOWN):
        config = Config(
            variant="v",
            storage=str(tmp_path),
            corpus=SyntheticCorpus(),
            ssl={"model": "some/model", "revision": "0" * 40},
        )
        stage = Stage("extract", 1, lambda _: {}, run, estimate=lambda *_: estimate)
        return Node(stage, "d", config, {"v": ()}, {}, {})

    return make


def run_alone(one: Node, claim=None) -> node_run.NodeOutcome:
    return node_run.run_node(one, node_run.Start(claim=claim, provenance=ORIGIN))


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
    one.artifact.delete(ERROR_LOG)
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
    left = {path.name for path in Path(one.artifact.path()).iterdir()}
    assert left == {"half.json", "log"}


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


def test_the_manifest_tells_what_made_the_output(alone):
    one = alone(lambda _: {})
    run_alone(one)
    manifest = one.artifact.read_json(MANIFEST)
    assert {name: manifest[name] for name in ORIGIN if name != "versions"} == {
        "commit": "0" * 40,
        "local_changes": True,
        "command": "python -m pipeline run demo",
    }
    assert manifest["versions"] == versions()


def test_a_node_without_its_claim_does_not_finish(alone):
    one = alone(lambda _: {"score": 1.0})
    lease = Lease(one.artifact, Owner.this_process())
    other = Lease(one.artifact, Owner.this_process())
    assert other.take()
    outcome = run_alone(one, lease.claim)
    assert (outcome.status, outcome.scores) == ("taken", {})
    assert not one.artifact.is_complete()
    assert not one.artifact.exists(METRICS)
    broken = alone(lambda _: {}["gone"])
    assert run_alone(broken, lease.claim).status == "taken"
    assert run_alone(broken, other.claim).status == "failed"
    assert run_alone(one, other.claim).status == "done"
    assert one.artifact.is_complete()
