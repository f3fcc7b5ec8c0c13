"""The members of a variant: one config for each speaker who is left out, and for each seed."""

import json

import pytest

from pipeline.config import Config, ConfigError
from pipeline.config.files import load
from pipeline.config.members import members, traits
from pipeline.corpus.adapters.manifest import ManifestCorpus
from pipeline.corpus.adapters.synthetic import SyntheticCorpus, make_prompts


def config(**training) -> Config:
    return Config(
        variant="v",
        corpus=SyntheticCorpus(),
        ssl={"model": "some/model", "revision": "0" * 40},
        training=training,
    )


def test_a_config_with_one_seed_is_its_own_member():
    one = config(seeds=[7])
    assert members(one) == (one,)
    assert traits(one, one) == ()
    assert one.training.seed == 7
    assert config().training.seeds == (0,)


def test_each_seed_is_a_member_and_the_first_has_the_vocoder():
    several = config(seeds=[4, 0, 9])
    found = members(several)
    assert [member.training.seed for member in found] == [4, 0, 9]
    assert [traits(member, several) for member in found] == [("seed 4",), ("seed 0",), ("seed 9",)]
    assert [member.vocoder.enabled for member in found] == [True, False, False]
    as_before = {"training": several.training, "vocoder": several.vocoder}
    assert all(member.model_copy(update=as_before) == several for member in found)


def test_a_variant_of_several_seeds_has_no_seed_of_its_own():
    with pytest.raises(ValueError, match="too many values"):
        _ = config(seeds=[0, 1]).training.seed


@pytest.mark.parametrize(
    ("seeds", "message"),
    [
        ([], "seeds is empty: name at least one"),
        ([1, 2, 1], r"seeds \[1, 2, 1\] names a seed twice"),
    ],
)
def test_seeds_that_make_no_sense_are_refused(seeds, message):
    with pytest.raises(ValueError, match=message):
        config(seeds=seeds)


@pytest.fixture
def spoken(tmp_path):
    """A config over a manifest whose audio is nowhere: planning does not look for it."""
    rows = [
        ("train", "zoe"),
        ("train", " ann"),
        ("valid", "ann "),
        ("test", "bob"),
        ("other", "eve"),
    ]
    lines = [
        json.dumps(
            {"utt_id": f"u{i}", "split": split, "speaker": who, "audio": "a.wav", "text": "x"}
        )
        for i, (split, who) in enumerate(rows)
    ]
    (tmp_path / "m.jsonl").write_text("\n".join(lines))

    def make(folds, **training) -> Config:
        corpus = ManifestCorpus(manifest=str(tmp_path / "m.jsonl"), folds=folds)
        return config(**training).model_copy(update={"corpus": corpus})

    return make


def test_each_speaker_of_the_named_splits_is_a_fold(spoken):
    several = spoken("speaker")
    found = members(several)
    assert [traits(member, several) for member in found] == [
        ("fold ann",),
        ("fold bob",),
        ("fold zoe",),
    ]
    assert [member.corpus.fold.speaker for member in found] == ["ann", "bob", "zoe"]
    assert all(member.vocoder.enabled for member in found)


def test_seeds_and_folds_multiply(spoken):
    several = spoken("speaker", seeds=[0, 1])
    found = members(several)
    named = [", ".join(traits(member, several)) for member in found]
    assert named[:3] == ["fold ann, seed 0", "fold ann, seed 1", "fold bob, seed 0"]
    assert len(set(named)) == len(named) == 6
    assert [member.vocoder.enabled for member in found] == [True, False] * 3
    assert all(members(member) == (member,) for member in found)


def test_speakers_may_be_named_and_one_alone_is_the_only_member(spoken):
    assert [each.corpus.fold.speaker for each in members(spoken(["zoe", " ann"]))] == ["zoe", "ann"]
    alone = spoken(["bob"])
    [member] = members(alone)
    assert member.corpus.fold.speaker == "bob"
    assert traits(member, alone) == ()
    assert member == members(spoken("speaker"))[1]


@pytest.mark.parametrize(("folds", "speakers"), [("speaker", ["a", "b"]), ("[b]", ["b"])])
def test_folds_come_from_a_file(tmp_path, folds, speakers):
    lines = (
        json.dumps({"utt_id": who, "split": "train", "speaker": who, "audio": "a.wav", "text": "x"})
        for who in "ab"
    )
    (tmp_path / "m.jsonl").write_text("\n".join(lines))
    (tmp_path / "v.yaml").write_text(
        f"corpus: {{kind: manifest, manifest: {tmp_path}/m.jsonl, folds: {folds}}}\n"
        "ssl: {model: some/model, revision: a}\ntraining: {seeds: [3]}\n"
    )
    found = members(load(tmp_path / "v.yaml"))
    assert [member.corpus.fold.speaker for member in found] == speakers
    assert [member.training.seed for member in found] == [3] * len(speakers)


def test_one_speaker_cannot_be_left_out(spoken):
    splits = {"train": "other", "valid": "valid2", "test": ["test2"]}
    alone = spoken("speaker").corpus.model_copy(
        update={"splits": type(SyntheticCorpus().splits)(**splits)}
    )
    with pytest.raises(ConfigError, match=r"one speaker out, but .* have the speakers \['eve'\]"):
        members(config().model_copy(update={"corpus": alone}))


def test_voices_are_speakers():
    corpus = SyntheticCorpus(folds="speaker")
    found = members(config().model_copy(update={"corpus": corpus}))
    spoken = {prompt.voice.name for prompt in make_prompts(corpus)}
    assert {member.corpus.fold.speaker for member in found} == spoken


@pytest.mark.parametrize(
    ("corpus", "message"),
    [
        ({"folds": "speakers"}, "must be 'speaker' or a list of speakers, got 'speakers'"),
        ({"folds": 3}, "must be 'speaker' or a list of speakers, got 3"),
        ({"folds": ["ann", "ann "]}, r"folds \['ann', 'ann'\] names a speaker twice"),
        ({"folds": [" "]}, "must not be empty"),
        ({"fold": {"speaker": "ann"}, "folds": ["bob"]}, r"write folds: \[ann\] instead"),
        (
            {"fold": {"speaker": "ann"}, "splits": {"test": ["one", "two"]}},
            r"write folds: \[ann\] instead",
        ),
        (
            {"folds": "speaker", "splits": {"valid": "test", "test": ["other"]}},
            "neither splits.train nor splits.valid can have this name",
        ),
    ],
)
def test_folds_that_make_no_sense_are_refused(corpus, message):
    with pytest.raises(ValueError, match=message):
        ManifestCorpus(manifest="m.jsonl", **corpus)
