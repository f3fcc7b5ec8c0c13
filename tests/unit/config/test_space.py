"""SPACE.yaml: what may be chosen and from what, and the message of each mistake."""

import pytest

from pipeline.config import Config, ConfigError
from pipeline.config.keys import exists
from pipeline.config.space import Range, read_space
from pipeline.corpus.adapters.synthetic import SyntheticCorpus

CONFIG = Config(
    variant="dkm",
    corpus=SyntheticCorpus(),
    ssl={"model": "some/model", "revision": "0" * 40},
    training={"phases": [{"epochs": 1}, {"epochs": 2}]},
)


@pytest.fixture
def read(tmp_path):
    def write_and_read(text):
        path = tmp_path / "space.yaml"
        path.write_text(text)
        return read_space(path)

    return write_and_read


def test_a_key_has_choices_or_a_range_and_each_knows_its_line(read):
    space = read(
        "training.phases[].learning_rates.asr: {low: 1.0e-4, high: 1.0e-2, log: true}\n"
        "asr.dim: {low: 64, high: 128}\n"
        "quantizer.sigma:\n  - {kind: fixed, value: 1}\n  - {value: 5}\n"
    )
    rate, dim, sigma = space.domains.values()
    assert (rate.low, rate.high, rate.log, rate.is_whole) == (1e-4, 1e-2, True, False)
    assert (dim, dim.is_whole) == (Range(64, 128, log=False, place=dim.place), True)
    assert dim.place.endswith("space.yaml:2")
    assert [choice.plain() for choice in sigma] == [{"kind": "fixed", "value": 1}, {"value": 5}]
    assert sigma[1].place.endswith("space.yaml:5")
    assert space.plain()["asr.dim"] == {"low": 64, "high": 128, "log": False}
    assert space.plain()["quantizer.sigma"] == [{"kind": "fixed", "value": 1}, {"value": 5}]


def test_what_trials_are_scored_by_can_be_chosen(read):
    space = read("token_asr.asr.dim: [64, 128]\nresynthesis_loss.weight: [0, 0.5]\n")
    space.check([CONFIG])
    assert list(space.domains) == ["token_asr.asr.dim", "resynthesis_loss.weight"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("asr.dim: 3", r"space.yaml:1: asr\.dim takes a list of choices, or .*; got the number 3"),
        ("asr.dim: []", "asr.dim takes a list of choices, .*; got an empty list"),
        ("asr.dim: {low: 1}", r"space.yaml:1: asr\.dim: a range is \{low: …, high: …\}"),
        ("asr.dim: {low: 1, high: wide}", "a range is"),
        ("asr.dim: {low: 1, high: 2, log: 1}", "a range is"),
        ("asr.dim: {low: 1, high: 2, step: 1}", r"asr\.dim\.step: unknown key"),
        ("asr.dim: {low: 2, high: 2}", "low 2 must be less than high 2"),
        ("asr.dim: {low: 0, high: 2, log: true}", "low 0 has no logarithm"),
        ("asr..dim: [1]", "is no key"),
        ("x: [1]\nasr.dim: [1]", r"space.yaml:1: x cannot be chosen on the validation split"),
        ("corpus.splits.test: [[a]]", "cannot be chosen on the validation split"),
        ("asr_evaluation.beam_size: [1, 2]", "cannot be chosen on the validation split"),
        ("training.seeds: [[0], [1]]", "a seed is no setting: the best of several is luck"),
        ("training: [{select: wer}, {seeds: [0]}]", r"space.yaml:1: training\.seeds cannot be"),
        ("ssl.model: [a, b]", "another SSL model is another comparison"),
        ("asr.dim: [1]\nasr.dim: [2]", "this key stands in"),
        ("{}", "the space has no keys"),
    ],
)
def test_a_mistake_is_named_with_its_line(read, text, message):
    with pytest.raises(ConfigError, match=message):
        read(text)


def test_a_key_that_no_variant_has_is_a_mistake_and_one_that_a_variant_lacks_is_known(read):
    space = read("asr.dim: [1]\ntraining.phases[1].epochs: [1, 2]\n")
    shorter = CONFIG.model_copy(
        update={
            "training": CONFIG.training.model_copy(update={"phases": CONFIG.training.phases[:1]})
        }
    )
    space.check([shorter, CONFIG])
    assert space.keys_without(CONFIG) == []
    assert space.keys_without(shorter) == ["training.phases[1].epochs"]
    with pytest.raises(
        ConfigError, match=r"space.yaml:2: training\.phases\[1\]\.epochs: no variant"
    ):
        space.check([shorter])


@pytest.mark.parametrize(
    ("key", "found"),
    [
        ("asr", True),
        ("asr.dim", True),
        ("asr.dimm", False),
        ("asr.dim.x", False),
        ("training.phases", True),
        ("training.phases[].learning_rates.asr", True),
        ("training.phases[1].epochs", True),
        ("training.phases[2].epochs", False),
        ("asr[].dim", False),
        ("model_config", False),
    ],
)
def test_exists(key, found):
    assert exists(CONFIG, key) == found
