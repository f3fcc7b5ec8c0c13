"""Which MLflow run is whose, whoever comes to it and how often."""

import dataclasses
import platform
import re

import pytest
from stored_runs import run_id, stored

from pipeline.storage.provenance import provenance
from pipeline.tracking.description import variant_tags
from pipeline.tracking.publication import End, VariantPublication
from pipeline.tracking.run_name import name_of_stage, name_of_variant
from pipeline.tracking.spelling import spell_text
from pipeline.tracking.tracker import Tracker, connect


def publish(tracker, config, tags=None, end=None):
    publication = VariantPublication(config, tags or {})
    if end is not None:
        publication.end(end)
    assert publication.publish(tracker) == (end is not None)
    return publication


def test_a_variant_has_its_config_as_parameters_without_secrets(uri, tracker, config, variant):
    publish(tracker, config)
    params = stored(uri, variant).data.params
    assert params["codebook.num_units"] == "64"
    assert params["training.phases.0.epochs"] == "8"
    assert params["corpus.manifest"] == "s3://***@host/corpus.jsonl"


def test_a_config_that_a_variant_names_is_a_parameter_by_its_name(uri, tracker, config):
    ssl = config.ssl.model_copy(update={"finetuned_by": config})
    tuned = config.model_copy(update={"variant": "tuned", "ssl": ssl})
    params = stored(uri, publish(tracker, tuned).name).data.params
    assert params["ssl.finetuned_by"] == config.variant
    assert not [key for key in params if key.startswith("ssl.finetuned_by.")]


def test_the_same_config_goes_on_in_the_same_run(uri, tracker, config, variant):
    publish(tracker, config, end=End("FAILED", {"test/WER in percent": 50.0}, time_ms=10**12))
    first = stored(uri, variant)
    assert first.info.status == "FAILED"
    assert first.data.metrics == {"test/WER in percent": 50.0}
    cluster = config.cluster.model_copy(update={"address": "x"})
    wider = config.model_copy(update={"cluster": cluster})
    assert name_of_variant(wider) == variant
    again = publish(Tracker(uri), wider)
    assert stored(uri, again.name).info.run_id == first.info.run_id
    assert stored(uri, again.name).info.status == "RUNNING"


def test_another_config_or_digest_is_another_run(uri, config, node, variant, stage):
    codebook = config.codebook.model_copy(update={"seed": 1})
    other = name_of_variant(config.model_copy(update={"codebook": codebook}))
    named = dataclasses.replace(node, digest="ff")
    names = [variant, stage, other, name_of_stage(named, variant)]
    assert len({run_id(uri, name) for name in names}) == len(names)
    # What an output has made it once, it is not made again for another variant.
    assert run_id(uri, name_of_stage(node, other)) == run_id(uri, stage)


@pytest.mark.parametrize(
    "name", ["o'hara", "", "a+b: ü\udce9\0", "x" * 9000, "tags.`a` = 'b' and", "a\nb"]
)
def test_a_hostile_variant_finds_its_run_again(uri, config, name):
    odd = name_of_variant(config.model_copy(update={"variant": name}))
    first = stored(uri, odd)
    assert run_id(uri, odd) == first.info.run_id
    assert 0 < len(first.info.run_name) <= 250
    assert first.data.tags["pipeline.variant"] == spell_text(name, 8000)


def test_a_stage_is_a_child_of_its_variant(uri, variant, stage):
    tags = stored(uri, stage).data.tags
    assert tags["mlflow.parentRunId"] == run_id(uri, variant)
    assert tags["mlflow.runName"] == "train_joint"


def test_the_stage_of_a_member_says_which_it_is(uri, config, node, variant):
    member = dataclasses.replace(node, variants={config.variant: ("seed 1",)})
    tags = stored(uri, name_of_stage(member, variant)).data.tags
    assert tags["mlflow.parentRunId"] == run_id(uri, variant)
    assert tags["mlflow.runName"] == "train_joint, seed 1"
    assert (tags["pipeline.stage"], tags["pipeline.member"]) == ("train_joint", "seed 1")


def test_two_drivers_that_make_a_run_at_once_end_with_one(uri, stage, monkeypatch):
    """The other one's run appears between this one's look and its own creation."""
    run_id(uri, stage.parent)
    made = []
    find = Tracker._find

    def slow_find(self, name):
        found = find(self, name)
        if name == stage and not made:
            made.append(self)
            Tracker(uri).run(stage)
        return found

    monkeypatch.setattr(Tracker, "_find", slow_find)
    mine = Tracker(uri).run(stage)
    assert (
        len(
            connect(uri).search_runs(
                [mine.experiment_id], f"tags.`pipeline.stage_digest` = '{stage.digest}'"
            )
        )
        == 1
    )
    assert made


def test_a_variant_says_what_it_is_and_from_which_commit(uri, tracker, config, variant):
    publish(tracker, config, variant_tags(config, provenance()))
    tags = stored(uri, variant).data.tags
    assert f"**{config.variant}** on the manifest corpus" in tags["mlflow.note.content"]
    commit = tags["mlflow.source.git.commit"]
    assert re.fullmatch(r"[0-9a-f]{40}( with local changes)?", commit)
    assert f"- commit: `{commit}`" in tags["mlflow.note.content"]
    assert tags["pipeline.command"].startswith("python -m pipeline")
    assert tags["pipeline.version.python"] == platform.python_version()
    publish(tracker, config, {"mlflow.note.content": "new, from http://u:hunter2@host"})
    assert stored(uri, variant).data.tags["mlflow.note.content"] == "new, from http://***@host"
