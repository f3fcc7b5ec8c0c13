"""`resynthesis.judge`: a config's file, a folder, or the variant's own recogniser alone."""

from pathlib import Path

import pytest
import yaml

from pipeline.commands.submit_paths import local_inputs
from pipeline.config import Config, ConfigError
from pipeline.config.files import load, load_all, sources
from pipeline.config.members import members
from pipeline.config.section import validate_json

BASE = {
    "storage": "runs",
    "corpus": {"kind": "synthetic"},
    "ssl": {"model": "some/model", "revision": "abc"},
    "resynthesis": {"judge": "continuous.yaml"},
}
KMEANS = {"kind": "kmeans", "layer_weights": "fixed"}


@pytest.fixture
def write(tmp_path, monkeypatch):
    """Both files extend a base that names the judge; it has no judge but itself."""
    monkeypatch.chdir(tmp_path)

    def write(name: str, **values) -> Path:
        Path(name).write_text(yaml.safe_dump(values))
        return Path(name)

    write("base.yaml", **BASE)
    write("continuous.yaml", extends="base.yaml", quantizer={"kind": "none"})
    write("kmeans.yaml", extends="base.yaml", quantizer=KMEANS)
    return write


def test_a_file_is_read_like_any_other_and_its_own_judge_is_itself(write):
    judge = load("kmeans.yaml", ["asr.dim=64"]).resynthesis.judging_config
    assert judge == load("continuous.yaml", ["asr.dim=64"])
    assert (judge.asr.dim, judge.resynthesis.judge) == (64, "own")
    assert sources(Path("kmeans.yaml")) == [
        *map(Path, ("kmeans.yaml", "base.yaml", "continuous.yaml", "base.yaml"))
    ]
    assert len(load_all(["continuous.yaml", "kmeans.yaml"])) == 2


def test_the_training_of_the_judge_is_needed_where_there_is_speech_to_judge(write):
    speaking, silent = load("kmeans.yaml"), load("kmeans.yaml", ["vocoder.enabled=false"])
    assert [other.variant for other in speaking.trainers] == ["continuous"]
    assert silent.trainers == load("continuous.yaml").trainers == ()


def test_a_judge_that_is_itself_finetuned_brings_both_trainings(write):
    phases = [{"epochs": 1}, {"epochs": 1, "ssl": "finetuned"}]
    full = {"quantizer": {"kind": "none"}, "training": {"phases": phases}}
    write("full.yaml", extends="base.yaml", **full)
    finetuned = {"quantizer": {"kind": "none"}, "ssl": {"finetuned_by": "full.yaml"}}
    write("continuous.yaml", extends="base.yaml", **finetuned)
    with pytest.raises(ConfigError, match=r"`resynthesis\.judge` goes in a circle"):
        load("kmeans.yaml")  # full.yaml names its reader as its judge
    write("full.yaml", extends="base.yaml", resynthesis={"judge": "own"}, **full)
    assert [each.variant for each in load("kmeans.yaml").trainers] == ["continuous", "full"]


def test_what_a_dry_run_prints_is_the_same_config(write):
    config = load("kmeans.yaml")
    assert validate_json(Config, config.model_dump(mode="json")) == config
    assert load(write("printed.yaml", **config.model_dump(mode="json"))) == config


def test_any_other_text_is_a_folder_which_may_come_from_the_command_line(write):
    named = load("kmeans.yaml", ["resynthesis.judge=models/whisper-base"]).resynthesis
    assert (named.judging_config, named.judging_folder) == (None, "models/whisper-base")
    own = load("kmeans.yaml", ["resynthesis.judge=own"]).resynthesis
    assert (own.judging_config, own.judging_folder, own.has_judge) == (None, None, False)


def test_a_job_needs_the_folder_if_there_is_speech_to_judge(write):
    judged = ["resynthesis.judge=models/whisper-base"]
    assert dict(local_inputs(load("kmeans.yaml", judged))) == {
        "resynthesis.judge": Path("models/whisper-base")
    }
    assert dict(local_inputs(load("kmeans.yaml", [*judged, "vocoder.enabled=false"]))) == {}
    assert dict(local_inputs(load("kmeans.yaml"))) == {}


@pytest.mark.parametrize(
    ("judge", "message"),
    [
        ("none.yaml", r"`resynthesis\.judge` names 'none\.yaml', but none\.yaml does not exist"),
        (3, r"own\.yaml:\d: resynthesis\.judge: takes 'own', a config's file or the folder"),
        ("far.yaml", r"resynthesis\.judge names the variant 'far', which has another storage: let"),
        ("more.yaml", r"names the variant 'more', which has another training\.seeds: let both"),
        ("wrong.yaml", r"wrong\.yaml:2: resynthesis\.judge\.asr\.headz: unknown key; did you mean"),
    ],
)
def test_a_judge_that_cannot_be_is_refused(write, judge, message):
    write("far.yaml", extends="base.yaml", storage="elsewhere", resynthesis={"judge": "own"})
    more = {"training": {"seeds": [0, 1]}, "resynthesis": {"judge": "own"}}
    write("more.yaml", extends="base.yaml", **more)
    write("wrong.yaml", asr={"headz": 2}, extends="base.yaml", resynthesis={"judge": "own"})
    with pytest.raises(ConfigError, match=message):
        load(write("own.yaml", extends="base.yaml", quantizer=KMEANS, resynthesis={"judge": judge}))


def test_a_command_line_names_no_file_for_it_would_change_both(write):
    with pytest.raises(ConfigError, match=r"`resynthesis\.judge` stands in a file"):
        load("kmeans.yaml", ["resynthesis.judge=kmeans.yaml"])


def test_the_judge_has_the_seed_of_what_it_judges(write):
    found = members(load("kmeans.yaml", ["training.seeds=[3, 5]"]))
    judges = [member.resynthesis.judging_config.training.seed for member in found]
    assert judges == [member.training.seed for member in found] == [3, 5]
