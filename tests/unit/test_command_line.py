"""The command line as a user meets it: plans, refusals, and one message for a mistake."""

import json
import os
import re
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
import typer.main
import yaml
from rich.text import Text
from typer.testing import CliRunner

from pipeline.__main__ import app
from pipeline.commands import plan
from pipeline.config import ConfigError
from pipeline.config.files import load
from pipeline.graph import disk_space
from pipeline.graph import graph as stage_graph
from pipeline.storage.artifacts import METRICS, Artifact, StorageFullError
from pipeline.storage.writable import UnwritableError

ROOT = Path(__file__).resolve().parents[2]

TOYS = """
    from pipeline.graph.stage import Estimate, Input, Stage

    def run(context):
        raise AssertionError("a plan runs nothing")

    def estimate(config, split, outputs):
        written = config.codebook.seed
        sampled = written % 2 == 1
        return Estimate(7200, 360_000, written, grows_with={"hours": 2.0}, sampled=sampled)

    def corpus(config):
        return {"corpus": config.corpus.model_dump(mode="json")}
"""
STAGES = {
    "toy_corpus": 'STAGE = Stage("toy_corpus", 1, corpus, run, cpus=1)',
    "toy_train": (
        'STAGE = Stage("toy_train", 1, lambda c: {"kind": c.quantizer.kind}, run,'
        ' inputs=lambda *_: (Input("toy_corpus"),), estimate=estimate)'
    ),
}


@pytest.fixture
def project(tmp_path, monkeypatch) -> Path:
    """A folder with two variants and toy stages in place of the real ones."""
    for name, line in STAGES.items():
        (tmp_path / f"{name}.py").write_text(textwrap.dedent(TOYS) + line)
    values = {
        "corpus": {"kind": "synthetic"},
        "ssl": {"model": "some/model", "revision": "0" * 40},
        "tracking": {"enabled": False},
        "storage": str(tmp_path / "runs"),
    }
    (tmp_path / "dkm.yaml").write_text(yaml.safe_dump(values))
    values["quantizer"] = {"kind": "kmeans", "layer_weights": "fixed"}
    (tmp_path / "kmeans.yaml").write_text(yaml.safe_dump(values))
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(stage_graph.build, "__defaults__", ((), tuple(STAGES), None))
    monkeypatch.setenv("COLUMNS", "160")
    yield tmp_path
    for name in STAGES:
        sys.modules.pop(name, None)


def invoke(*arguments: str):
    return CliRunner().invoke(app, arguments)


def test_plan_shows_state_hours_frames_and_bytes(project):
    graph = stage_graph.build([load("kmeans.yaml"), load("dkm.yaml")], (), tuple(STAGES))
    graph.members_of("dkm")[0].nodes["toy_corpus"].artifact.finish({"seconds": 1.0})

    result = invoke("plan", "kmeans.yaml", "dkm.yaml", "--set", "codebook.seed=3000000")

    assert result.exit_code == 0, result.output
    lines = [line.split() for line in result.output.splitlines()]
    assert ["toy_corpus", "kmeans,", "dkm", "done", "1", "s", "-", "-", "-"] in lines
    assert ["toy_train", "dkm", "to", "run", "-", "2.00", "360,000", "3", "MB"] in lines
    assert "2 of 3 stages to run; about 6 MB to write to" in result.output
    assert "free" in result.output


def test_plan_names_the_members_that_a_stage_is_for(project):
    (project / "toy_train.py").write_text(
        textwrap.dedent(TOYS)
        + 'STAGE = Stage("toy_train", 1, lambda c: {"seed": c.training.seed}, run,'
        ' inputs=lambda *_: (Input("toy_corpus"),))'
    )
    lines = invoke("plan", "dkm.yaml", "--set", "training.seeds=[4,2]").output.splitlines()
    shown = [line.partition("to run")[0].split() for line in lines]
    assert shown[1:4] == [
        ["toy_corpus", "dkm"],
        ["toy_train", "dkm", "(seed", "4)"],
        ["toy_train", "dkm", "(seed", "2)"],
    ]


def test_plan_marks_what_it_has_extrapolated(project):
    exact, sampled = (
        invoke("plan", "kmeans.yaml", "--set", f"codebook.seed={seed}").output
        for seed in (3_000_000, 3_000_001)
    )
    assert "~" not in exact
    lines = [line.split() for line in sampled.splitlines()]
    assert ["toy_train", "kmeans", "to", "run", "-", "~2.00", "~360,000", "~3", "MB"] in lines
    assert "~ extrapolated from the headers of some of the audio files" in sampled


def test_plan_names_splits_that_the_corpus_lacks(tmp_path):
    row = {"utt_id": "a", "speaker": "ann", "audio": "a.wav", "text": "one", "duration": 1.0}
    splits = ("train", "valid", "test_seen")
    rows = [json.dumps({**row, "utt_id": split, "split": split}) for split in splits]
    (tmp_path / "manifest.jsonl").write_text("\n".join([*rows, "{"]))
    options = ["--storage", "runs", "--set", "corpus={kind: manifest, manifest: manifest.jsonl}"]
    result = command("plan", "demo/kmeans", *options, folder=tmp_path)
    assert result.returncode == 0
    lacks = "no utterance of the splits ['test']; its splits are ['test_seen', 'train', 'valid']"
    assert f"{lacks} (1 rows cannot be used, first manifest.jsonl:4: broken line" in result.stdout
    for text, said in (
        ("\n".join(rows), f"{lacks}: correct"),
        ("", "no utterance of the splits ['train', 'valid', 'test'], nor of any other: correct"),
    ):
        (tmp_path / "manifest.jsonl").write_text(text)
        assert said in command("plan", "demo/kmeans", *options, folder=tmp_path).stdout
    (tmp_path / "manifest.jsonl").write_text("\n".join(rows).replace("test_seen", "test"))
    assert "no utterance" not in command("plan", "demo/kmeans", *options, folder=tmp_path).stdout


def test_stage_limits_the_plan(project):
    result = invoke("plan", "kmeans.yaml", "--stage", "toy_corpus")
    assert "toy_train" not in result.output
    assert "1 of 1 stages to run" in result.output


def test_storage_is_an_option(project):
    result = invoke("plan", "kmeans.yaml", "--storage", str(project / "elsewhere"))
    assert str(project / "elsewhere") in result.output.replace("\n", "")


def test_a_dry_run_prints_the_resolved_configs_and_starts_nothing(project):
    result = invoke("run", "kmeans.yaml", "dkm.yaml", "--dry-run", "--set", "asr.dim=64")
    documents = list(yaml.safe_load_all(result.output))
    assert [document["variant"] for document in documents] == ["kmeans", "dkm"]
    assert {document["asr"]["dim"] for document in documents} == {64}
    assert not (project / "runs").exists()


def test_a_finished_run_is_compared_at_once(project):
    graph = stage_graph.build([load("kmeans.yaml"), load("dkm.yaml")], (), tuple(STAGES))
    for number, node in enumerate(graph.nodes):
        node.artifact.write_json(METRICS, {"test.wer": number / 8} if node.inputs else {})
        node.artifact.finish({"seconds": 1.0})

    result = invoke("run", "kmeans.yaml", "dkm.yaml")
    assert result.exit_code == 0, result.output
    assert "0 of 3 stages to run" in result.output
    assert "WER" in result.output
    assert "25.0" in result.output
    assert "starting Ray" not in result.output

    found = json.loads(invoke("compare", "kmeans.yaml", "dkm.yaml", "--format", "json").output)
    assert found["kmeans"]["test.wer"] == 1 / 8
    assert found["dkm"]["test.wer"] == 2 / 8
    assert invoke("compare", "dkm.yaml", "--format", "csv").output.startswith("score,dkm\n")
    assert invoke("compare", "dkm.yaml", "--format", "markdown").output.startswith("| score |")


def test_compare_shows_what_is_missing_as_missing(project):
    result = invoke("compare", "kmeans.yaml")
    assert result.exit_code == 0
    assert "kmeans" in result.output


def command(
    *arguments: str, folder: Path, code: str = "", **environment: str
) -> subprocess.CompletedProcess:
    start = ["-c", code] if code else ["-m", "pipeline"]
    return subprocess.run(
        [sys.executable, *start, *arguments],
        capture_output=True,
        text=True,
        check=False,
        cwd=folder,
        env={**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{folder}", **environment},
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("plan", "none.yaml"), "none.yaml: there is no such config file"),
        (("plan", "demo/kmean"), "Did you mean 'demo/kmeans'?"),
        (("plan", "empty"), "empty: the folder has no YAML file"),
        (
            ("tokenize", "empty", "x.wav", "--output", "x.csv"),
            "x.csv: units are written as Parquet",
        ),
        (("report", "kmeans.yaml", "--output", "dkm.yaml/x.html"), "x.html cannot be written"),
        (("run", "kmeans.yaml", "--set", "asr.dimm=1"), "did you mean 'dim'?"),
        (
            ("plan", "kmeans.yaml", "--set", "corpus={kind: librispeech, root: gone}"),
            "/gone), where corpus.root says that the corpus is: correct it",
        ),
        (("plan", "kmeans.yaml", "--set", "corpus.folds=[eve]"), "the speakers there are ['"),
        (("run", "kmeans.yaml", "--set", "corpus.folds=[eve]"), "corpus.folds leaves out 'eve'"),
        (("run", "kmeans.yaml", "--set", "extra_stages=[my.stage]"), "'my.stage' cannot be"),
        (
            ("compare", "kmeans.yaml", "--against", "dkm"),
            "'dkm' to compare with; there are: kmeans",
        ),
    ],
)
def test_a_mistake_is_one_message_and_no_traceback(project, arguments, message):
    (project / "empty").mkdir()
    result = command(*arguments, folder=project)
    assert result.returncode == 1
    assert message in result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize("encoding", ["ascii", "utf-8"])
def test_a_name_that_the_console_cannot_print_is_escaped(project, encoding):
    output = "caf\xe9-\udce9"  # the second is a byte that is not UTF-8
    Artifact(str(project / output)).finish({})
    result = command("verify", output, folder=project, PYTHONIOENCODING=f"{encoding}:strict")
    assert result.returncode == 0, result.stderr
    assert {"ascii": r"caf\xe9-\udce9: bytes", "utf-8": "caf\xe9-\\udce9: bytes"}[
        encoding
    ] in result.stdout


@pytest.mark.parametrize("name", ["run", "plan"])
def test_a_storage_that_cannot_be_written_is_found_before_any_work(project, name):
    (project / "runs").write_text("a file in the way")
    for folder in ("runs", "runs/inner"):
        error = invoke(name, "kmeans.yaml", "--storage", str(project / folder)).exception
        assert isinstance(error, UnwritableError)
        said = f"{project}/{folder} cannot be written: {project}/runs is a file, not a folder"
        assert said in str(error)
    error = invoke(name, "kmeans.yaml", "--storage", "http://host/runs").exception
    assert isinstance(error, ConfigError)
    assert "storage: 'http://host/runs' cannot be written: http addresses can only be" in str(error)


@pytest.mark.parametrize("name", ["tokenize", "transcribe", "resynthesize"])
def test_a_model_that_is_not_there_is_a_clear_error(project, name):
    error = invoke(name, "nowhere", "a.wav").exception
    assert isinstance(error, ConfigError)
    assert re.search("nowhere.* has no model: name a folder with", str(error))


@pytest.mark.parametrize(
    ("name", "model"),
    [
        ("tokenize", "tokenizer"),
        ("transcribe", "asr"),
        ("resynthesize", "vocoder"),
        ("continue", "unit_lm"),
    ],
)
@pytest.mark.parametrize("own", [False, True])
def test_several_models_are_named(project, name, model, own):
    """As a shell gives them for `runs/trained/*`, or for `runs/trained/*/tokenizer`."""
    trained = [f"runs/trained/{digest}" for digest in "ab"]
    for folder, variant in zip(trained, ("kmeans", "dkm"), strict=True):
        Artifact(str(project / folder)).write_json(f"{model}/config.json", {})
        Artifact(str(project / folder)).finish({"variants": [variant]})
    if own:
        trained = [f"{folder}/{model}" for folder in trained]
    error = invoke(name, *trained, "a.wav").exception
    assert isinstance(error, ConfigError)
    whose = ("", "") if own else (" (kmeans)", " (dkm)")
    named = ", ".join(f"{folder}{which}" for folder, which in zip(trained, whose, strict=True))
    said = f"2 models were given, and the command takes one: {named}. Name one, then what it is to read"
    assert str(error) == said
    (project / "config.json").write_text("{}")
    one = invoke(name, trained[0], str(project)).exception
    assert "models were given" not in str(one)


def test_no_part_of_a_help_text_is_taken_for_markup():
    for command in typer.main.get_command(app).commands.values():
        for parameter in command.params:
            text = getattr(parameter, "help", None) or ""
            assert Text.from_markup(text).plain == text, f"{command.name} {parameter.name}"


def test_plan_imports_neither_torch_nor_ray(project):
    code = textwrap.dedent("""
        import sys
        from pipeline.graph import graph as stage_graph
        from pipeline.__main__ import app
        stage_graph.build.__defaults__ = ((), ("toy_corpus", "toy_train"), None)
        app(["plan", "kmeans.yaml", "dkm.yaml"], standalone_mode=False)
        print("heavy:", {"torch", "ray", "mlflow", "transformers"} & set(sys.modules))
    """)
    result = command(folder=project, code=code)
    assert "3 of 3 stages to run" in result.stdout, result.stderr
    assert "heavy: set()" in result.stdout


def test_a_run_that_cannot_fit_is_refused(project, monkeypatch):
    graph = stage_graph.build([load("kmeans.yaml", ["codebook.seed=2000"])], (), tuple(STAGES))
    monkeypatch.setattr(disk_space, "free_bytes", lambda _: 1999)
    with pytest.raises(StorageFullError, match=r"about 2 kB would be .* 2 of the 2 hours"):
        plan.check_space(graph, "runs")
    monkeypatch.setattr(disk_space, "free_bytes", lambda _: 2000)
    plan.check_space(graph, "runs")


def test_what_stands_needs_no_more_space(project, monkeypatch):
    graph = stage_graph.build([load("kmeans.yaml", ["codebook.seed=2000"])], (), tuple(STAGES))
    with graph.members_of("kmeans")[0].nodes["toy_train"].artifact.write("half") as file:
        file.write(b"0" * 1200)
    monkeypatch.setattr(disk_space, "free_bytes", lambda _: 800)
    plan.check_space(graph, "runs")
    monkeypatch.setattr(disk_space, "free_bytes", lambda _: 799)
    with pytest.raises(StorageFullError, match="about 800 B would be"):
        plan.check_space(graph, "runs")
