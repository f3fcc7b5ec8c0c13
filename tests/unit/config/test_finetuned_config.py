"""`ssl.finetuned_by`: another config inside a config, read like it and agreeing with it."""

from pathlib import Path

import pytest
import yaml

from pipeline.config import ConfigError
from pipeline.config.files import load, load_all, sources
from pipeline.config.section import validate_json
from pipeline.config.variant import Config

BASE = {
    "storage": "runs",
    "corpus": {"kind": "synthetic"},
    "ssl": {"model": "some/model", "revision": "abc"},
    "training": {"phases": [{"epochs": 2}]},
}
FINETUNED = [{"epochs": 1}, {"epochs": 1, "ssl": "finetuned"}]
KMEANS = {"kind": "kmeans", "layer_weights": "fixed"}


@pytest.fixture
def write(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def write(name: str, **values) -> Path:
        path = Path(name)
        path.parent.mkdir(exist_ok=True, parents=True)
        path.write_text(yaml.safe_dump(values))
        return path

    write("base.yaml", **BASE)
    full = {"quantizer": {"kind": "none"}, "training": {"phases": FINETUNED}}
    write("full.yaml", extends="base.yaml", **full)
    write("own.yaml", extends="base.yaml", ssl={"finetuned_by": "full.yaml"}, quantizer=KMEANS)
    return write


def test_the_file_is_read_like_any_other_and_overrides_change_both(write):
    config = load("own.yaml", ["asr.dim=64"])
    assert config.ssl.finetuned_by == load("full.yaml", ["asr.dim=64"])
    assert config.asr.dim == config.ssl.finetuned_by.asr.dim == 64
    assert config.finetuners == (config.ssl.finetuned_by,)
    assert load("full.yaml").finetuners == ()


def test_it_lies_beside_the_config_that_is_run_whichever_file_names_it(write):
    write("variants/kmeans.yaml", ssl={"finetuned_by": "full.yaml"}, quantizer=KMEANS)
    path = write("leaf.yaml", extends=["base.yaml", "variants/kmeans.yaml"])
    assert load(path).ssl.finetuned_by == load("full.yaml")
    assert sources(path) == [
        *map(Path, ("leaf.yaml", "variants/kmeans.yaml", "base.yaml", "full.yaml", "base.yaml"))
    ]


def test_it_may_lie_beside_a_file_that_the_config_extends_but_its_own_folder_comes_first(write):
    path = write("tuned/own.yaml", extends="../own.yaml")
    assert load(path).ssl.finetuned_by == load("full.yaml")
    beside = write("tuned/full.yaml", extends="../full.yaml", asr={"dim": 64})
    assert load(path).ssl.finetuned_by == load(beside)


def test_what_a_dry_run_prints_is_the_same_config(write):
    config = load("own.yaml")
    assert validate_json(Config, config.model_dump(mode="json")) == config
    assert load(write("printed.yaml", **config.model_dump(mode="json"))) == config


def test_a_mistake_in_the_other_file_is_where_it_was_made(write):
    Path("full.yaml").write_text("extends: base.yaml\nasr:\n  headz: 2\n")
    message = r"  full\.yaml:3: ssl\.finetuned_by\.asr\.headz: unknown key; did you mean 'heads'\?"
    with pytest.raises(ConfigError, match=message):
        load("own.yaml")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("none.yaml", r"own\.yaml:\d: `ssl\.finetuned_by` names 'none\.yaml', but none\.yaml does"),
        ("own.yaml", r"own\.yaml:\d: `ssl\.finetuned_by` goes in a circle: .* back to own\.yaml"),
        ("between.yaml", r"between\.yaml:\d: `ssl\.finetuned_by` goes in a circle"),
        (3, r"own\.yaml:\d: ssl\.finetuned_by: must be a section"),
    ],
)
def test_a_name_that_leads_nowhere_or_back_is_refused(write, name, message):
    write("between.yaml", extends="full.yaml", ssl={"finetuned_by": "own.yaml"})
    with pytest.raises(ConfigError, match=message):
        load(write("own.yaml", extends="base.yaml", ssl={"finetuned_by": name}))


def test_a_command_line_cannot_name_it_because_it_would_change_both(write):
    with pytest.raises(ConfigError, match=r"`ssl\.finetuned_by` stands in a file"):
        load("full.yaml", ["ssl.finetuned_by=own.yaml"])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"training": {"phases": [{"epochs": 1}]}}, "'full', whose training.phases all leave"),
        ({"storage": "elsewhere"}, "'full', which has another storage: let both extend one file"),
        ({"corpus": {"min_seconds": 0.2}}, "'full', which has another corpus:"),
        ({"ssl": {"revision": "abd"}}, "'full', which has another ssl:"),
        ({"training": {"seeds": [1]}}, r"'full', which has another training\.seeds:"),
        ({"features": {"layers": [1, 2]}}, r"'full', which has another features\.layers:"),
        (
            {"storage": "a", "features": {"layers": [2]}},
            r"'full', which has another storage and another features\.layers:",
        ),
        (
            {"quantizer": {"layer_weights": "fixed"}, "codebook": {"layer": 1}},
            r"'full', which keeps the SSL model's layers up to 1, and features\.layers \[0, 1, 2\]",
        ),
    ],
)
def test_a_contradiction_between_the_two_is_refused(write, changes, message):
    training = {"phases": FINETUNED, **changes.get("training", {})}
    write("full.yaml", **{"extends": "base.yaml", **changes, "training": training})
    with pytest.raises(ConfigError, match=f"ssl.finetuned_by names the variant {message}"):
        load("own.yaml")


def test_a_variants_name_stands_for_one_config(write):
    assert len(load_all(["own.yaml", "full.yaml"])) == 2
    other = {"training": {"phases": [{"epochs": 5, "ssl": "finetuned"}]}, "variant": "full"}
    write("other.yaml", extends="base.yaml", **other)
    with pytest.raises(ConfigError, match="variant name 'full', and ssl"):
        load_all(["own.yaml", "other.yaml"])
