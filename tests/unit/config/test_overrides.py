"""`--set key.path=value`: what it sets, and the message of each mistake."""

import pytest

from pipeline.config import ConfigError
from pipeline.config.overrides import apply
from pipeline.config.yaml_file import read_value


@pytest.fixture
def config():
    return read_value(
        "asr: {dim: 128}\ntraining:\n  phases: [{epochs: 1}]\nssl: null\n", "f:{}".format
    )


def test_a_value_is_set_and_its_place_is_the_option(config):
    changed = apply(config, "asr.dropout=1e-1")
    assert changed.plain()["asr"] == {"dim": 128, "dropout": 0.1}
    assert changed.value["asr"].value["dropout"].place == "--set asr.dropout=1e-1"
    assert changed.value["asr"].value["dim"].place == "f:1"
    assert apply(config, "new.section.key=a=b").plain()["new"] == {"section": {"key": "a=b"}}
    assert apply(config, "training.phases=[{epochs: 2}]").plain()["training"]["phases"] == [
        {"epochs": 2}
    ]


def test_an_item_of_a_list_is_named_by_its_number_and_all_by_none():
    config = read_value("phases: [{epochs: 1, rates: {asr: 1}}, {epochs: 2}]", "f:{}".format)
    changed = apply(config, "phases[1].epochs=9").plain()["phases"]
    assert changed == [{"epochs": 1, "rates": {"asr": 1}}, {"epochs": 9}]
    changed = apply(config, "phases[].rates.ssl=3").plain()["phases"]
    assert changed == [
        {"epochs": 1, "rates": {"asr": 1, "ssl": 3}},
        {"epochs": 2, "rates": {"ssl": 3}},
    ]


@pytest.mark.parametrize(
    ("override", "value"),
    [
        ("k=null", None),
        ("k=''", ""),
        ("k=yes", "yes"),
        ("k='a #b'", "a #b"),
        ("k=a#b", "a#b"),
        ("k=[a, 'b #c']", ["a", "b #c"]),
        ("k=s3://bucket/x=y", "s3://bucket/x=y"),
    ],
)
def test_the_value_is_yaml_as_in_a_file(config, override, value):
    assert apply(config, override).plain()["k"] == value


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("", "takes key.path=value, such as asr.dim=256, got ''"),
        ("asr.dim", "takes key.path=value"),
        ("=3", "takes key.path=value"),
        (".=3", "takes key.path=value"),
        ("a..b=3", "takes key.path=value"),
        ("asr.=3", "takes key.path=value"),
        (" =3", "takes key.path=value"),
        (".".join("a" * 100) + "=3", "takes key.path=value"),
        ("asr.dim=", "--set asr.dim=: the value is missing: for none write null"),
        ("asr.dim=  ", "the value is missing"),
        ("asr.dim=# 3", "there is nothing in it"),
        ("storage=runs #2", "'#' begins a comment: put the value in quotes"),
        ("asr.dim.x=3", r"asr\.dim is the number 128 \(f:1\), which has no keys: .*asr\.dim=…"),
        ("ssl.model=x", r"ssl is null \(f:4\), which has no keys"),
        ("training.phases.0.epochs=3", r"training\.phases is a list \(f:3\), which has no keys"),
        ("training.phases[1].epochs=3", r"training\.phases has 1 items \(f:3\), from \[0\] on"),
        ("training.phases[0].epochs.x=3", r"phases\[0\]\.epochs is the number 1 \(f:3\), which"),
        ("asr[0].dim=3", r"asr is a mapping \(f:1\), which has no items"),
        ("features[].layers=3", "features is not set, which has no items"),
        ("training.phases[x].epochs=3", "takes key.path=value"),
        ("extends=x.yaml", "`extends` stands in a file"),
        ("asr={dim: 1, dim: 2}", r"--set asr=.*: dim: this key stands in"),
        ("asr.dim=010", "010 is 10 to one YAML reader"),
        ("asr.dim=[1", "not readable as YAML"),
        ("asr.dim=\udcff", "not readable as YAML: the character U"),
    ],
)
def test_a_mistake_is_one_message_with_the_option(config, override, message):
    with pytest.raises(ConfigError, match=message) as caught:
        apply(config, override)
    assert str(caught.value).startswith("--set ")
