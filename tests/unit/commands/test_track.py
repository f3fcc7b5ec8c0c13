"""`track` publishes what is stored to any server, as often as it is called."""

import pytest
from evaluated_variants import evaluated
from rich.console import Console
from stored_runs import new_store, stored

from pipeline.commands import track
from pipeline.config import Tracking
from pipeline.graph.graph import Graph
from pipeline.log.stage_log import StageLog
from pipeline.storage import provenance
from pipeline.storage.leases import Lease
from pipeline.storage.owner import Owner
from pipeline.tracking.failure import TrackingError
from pipeline.tracking.run_name import name_of_stage, name_of_variant
from pipeline.tracking.tracker import connect


@pytest.fixture
def member(tmp_path, monkeypatch):
    """A variant that is evaluated, whose config turns tracking off."""
    member = evaluated(tmp_path, "kmeans", [1] * 9)
    off = member.config.model_copy(update={"tracking": Tracking(enabled=False)})
    monkeypatch.setattr(track, "build", lambda *_: Graph((member,)))
    return off, member


def test_everything_stored_is_published_once_and_again_elsewhere(member, tmp_path):
    config, graph_member = member
    node = graph_member.nodes["evaluate_asr/test"]
    StageLog(node.artifact).metrics({"beam": 4.0}, 1)
    for name, each in graph_member.nodes.items():
        each.artifact.finish(made_by(name))
    variant = name_of_variant(config)
    one, other = (new_store(tmp_path / f"{name}.db") for name in ("one", "other"))
    for uri in (one, one, other):
        console = Console(width=300)
        with console.capture() as captured:
            assert track.track([config], uri, console)
        assert f"are published to {uri}" in captured.get()
        run = stored(uri, variant)
        assert run.info.status == "FINISHED"
        assert "test/WER in percent" in run.data.metrics
        stage = stored(uri, name_of_stage(node, variant))
        assert stage.info.status == "FINISHED"
        assert stage.data.metrics["beam"] == 4.0
        runs = connect(uri).search_runs([run.info.experiment_id])
        shown = {each.info.run_name: each.data.tags for each in runs}
        assert shown.keys() == {"kmeans", *graph_member.nodes}
        assert len(runs) == len(shown)
        for name, tags in shown.items():
            # A variant is shown as made by who made its last output, not by who publishes it.
            told = provenance.tags(made_by("evaluate_asr/test" if name == "kmeans" else name))
            assert len(told) == 3
            assert told.items() <= tags.items()
        assert f"- commit: `{'e' * 40}`" in shown["kmeans"]["mlflow.note.content"]


def made_by(name):
    """As the manifest of an output tells it."""
    return {"commit": name[0] * 40, "command": f"dkm run {name}", "versions": {"torch": name}}


@pytest.mark.parametrize(
    ("failed", "held", "status"),
    [(True, False, "FAILED"), (False, False, "KILLED"), (False, True, "RUNNING")],
)
def test_what_is_unfinished_is_published_as_such(member, tmp_path, failed, held, status):
    """A stage whose lease a living run holds is not taken for killed."""
    config, graph_member = member
    node = graph_member.nodes["evaluate_asr/test"]
    node.artifact.delete("manifest.json")
    log = StageLog(node.artifact)
    log.started()
    if failed:
        log.failed("its process was lost")  # so that there is no traceback
    if held:
        assert Lease(node.artifact, Owner.this_process()).take()
    uri = new_store(tmp_path / "one.db")
    assert track.track([config], uri, Console(quiet=True))
    variant = name_of_variant(config)
    for name in (variant, name_of_stage(node, variant)):
        assert stored(uri, name).info.status == status


def test_a_variant_whose_stage_ends_in_this_moment_has_finished(member, tmp_path, monkeypatch):
    config, graph_member = member
    node = graph_member.nodes["evaluate_asr/test"]
    node.artifact.delete("manifest.json")
    StageLog(node.artifact).started()

    def ends_now(output):
        output.finish(made_by("run"))
        return False

    monkeypatch.setattr(track, "is_being_made", ends_now)
    uri = new_store(tmp_path / "one.db")
    assert track.track([config], uri, Console(quiet=True))
    assert stored(uri, name_of_variant(config)).info.status == "FINISHED"


def test_a_server_that_does_not_answer_is_one_clear_error(member, caplog):
    config, _ = member
    with pytest.raises(
        TrackingError, match=r"so nothing is published \(.*: start it, or"
    ) as caught:
        track.track([config], "http://user:hunter2@127.0.0.1:9", Console(quiet=True))
    assert "***@127.0.0.1:9 does not answer" in str(caught.value)
    assert "hunter2" not in str(caught.value)
    assert "MLflow" not in caplog.text  # the error says it all
