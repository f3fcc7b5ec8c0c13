"""Which MLflow run is whose, whoever comes to it and how often."""

import dataclasses
import platform
import re

import pytest
from stored_runs import run_id, stored

from pipeline import tracking
from pipeline.tracking import RunName, StageRun, TrackingSpec, outbox
from pipeline.tracking.description import variant_tags
from pipeline.tracking.failure import RunNotFoundError
from pipeline.tracking.spelling import spell_text
from pipeline.tracking.tracker import Tracker


def test_a_variant_has_its_config_as_parameters_without_secrets(variant):
    params = stored(variant).data.params
    assert params["codebook.num_units"] == "64"
    assert params["training.phases.0.epochs"] == "8"
    assert params["corpus.manifest"] == "s3://***@host/corpus.jsonl"


def test_the_same_config_goes_on_in_the_same_run(session, config, variant, stage):
    stage.finish()
    variant.finish("FAILED")
    first, first_stage = stored(variant), stored(stage)
    assert first.info.status == "FAILED"
    wider = config.model_copy(
        update={"cluster": config.cluster.model_copy(update={"address": "x"})}
    )
    again = session.start_variant(wider)
    assert stored(again).info.run_id == first.info.run_id
    assert stored(again).info.status == "RUNNING"
    assert tracking.start_stage(again, "train_joint", "0123456789abcdef") == stage
    assert stored(stage).info.status == "RUNNING"
    assert stored(stage).info.run_id == first_stage.info.run_id


def test_another_config_or_digest_is_another_run(session, config, variant, stage):
    codebook = config.codebook.model_copy(update={"seed": 1})
    other = session.start_variant(config.model_copy(update={"codebook": codebook}))
    runs = [
        variant,
        stage,
        other,
        tracking.start_stage(variant, "train_joint", "ff"),
        tracking.start_stage(variant, "phone_purity", "0123456789abcdef"),
        tracking.start_stage(other, "train_joint", "0123456789abcdef"),
    ]
    assert len({run_id(run) for run in runs}) == len(runs)


def test_a_quote_in_a_name_finds_its_run_again(session, config, in_a_new_process):
    odd = session.start_variant(config.model_copy(update={"variant": "o'hara"}))
    first = run_id(odd)
    assert run_id(in_a_new_process(odd, leads=True)) == first


@pytest.mark.parametrize("name", ["", "a+b: ü\udce9\0", "x" * 9000, "tags.`a` = 'b' and", "a\nb"])
def test_a_hostile_variant_finds_its_run_again(session, config, in_a_new_process, name):
    odd = session.start_variant(config.model_copy(update={"variant": name}))
    first = stored(odd)
    assert run_id(in_a_new_process(odd, leads=True)) == first.info.run_id
    assert 0 < len(first.info.run_name) <= 250
    assert first.data.tags["pipeline.variant"] == spell_text(name, 8000)


def test_a_stage_is_a_child_of_its_variant(variant, stage):
    tags = stored(stage).data.tags
    assert tags["mlflow.parentRunId"] == run_id(variant)
    assert tags["mlflow.runName"] == "train_joint"


def test_the_stage_of_a_member_says_which_it_is(variant):
    tags = stored(tracking.start_stage(variant, "train_joint", "02", "seed 1")).data.tags
    assert tags["mlflow.parentRunId"] == run_id(variant)
    assert tags["mlflow.runName"] == "train_joint, seed 1"
    assert (tags["pipeline.stage"], tags["pipeline.member"]) == ("train_joint", "seed 1")


def test_a_worker_makes_neither_stores_nor_experiments_nor_runs(stage, tmp_path):
    """On a machine that has no such file, it leaves all to the driver, in the storage."""
    elsewhere = f"sqlite:///{tmp_path}/mlflow.db"
    box = outbox.Outbox(str(tmp_path / "outbox"))
    worker = StageRun(elsewhere, box.uri, stage.run)
    worker.log_metrics({"loss": 1.0}, 0)
    worker.flush(60)
    assert len(box.files(stage.run.key)) == 1
    assert not (tmp_path / "mlflow.db").exists()
    fresh = dataclasses.replace(stage.run, experiment="fresh")
    with pytest.raises(RunNotFoundError, match="no experiment 'fresh'"):
        Tracker(stage.uri)._record(fresh)
    fresh = dataclasses.replace(stage.run, tags=(("pipeline.stage_digest", "fresh"),))
    stage.flush(60)
    with pytest.raises(RunNotFoundError, match="no run 'train_joint'"):
        Tracker(stage.uri)._record(fresh)


def test_two_drivers_that_make_a_run_at_once_end_with_one(variant, monkeypatch):
    """The other one's run appears between this one's look and its own creation."""
    run_id(variant)
    tags = (("pipeline.stage", "train_joint"), ("pipeline.stage_digest", "raced"))
    name = RunName(variant.run.experiment, "train_joint", tags, parent=variant.run)
    made = []
    search = Tracker._search

    def slow_search(self, experiment_id, tags):
        found = search(self, experiment_id, tags)
        if "pipeline.stage" in tags and not made:
            made.append(self)
            Tracker(variant.uri, creates=True)._record(name)
        return found

    monkeypatch.setattr(Tracker, "_search", slow_search)
    mine = Tracker(variant.uri, creates=True)._record(name)
    assert search(Tracker(variant.uri), mine.experiment_id, dict(tags)) == [mine.run_id]
    assert made


def test_a_run_shows_no_credentials(stage):
    shown = repr(TrackingSpec("http://u:hunter2@h", "outbox", stage.run))
    assert "hunter2" not in shown


def test_a_variant_says_what_it_is_and_from_which_commit(session, config):
    run = session.start_variant(config, tags=variant_tags(config))
    tags = stored(run).data.tags
    assert f"**{config.variant}** on the manifest corpus" in tags["mlflow.note.content"]
    commit = tags["mlflow.source.git.commit"]
    assert re.fullmatch(r"[0-9a-f]{40}( with local changes)?", commit)
    assert f"- commit: `{commit}`" in tags["mlflow.note.content"]
    assert tags["pipeline.command"].startswith("python -m pipeline")
    assert tags["pipeline.version.python"] == platform.python_version()
    assert session.start_variant(config, tags={"mlflow.note.content": "new"}) == run
    assert stored(run).data.tags["mlflow.note.content"] == "new"
