"""`tune` from config files to records and tuned configs, with trainings that only pretend."""

import json
from contextlib import contextmanager

import pytest

pytest.importorskip("ray")

from rich.console import Console

from pipeline.commands import tune as command
from pipeline.commands.run_display import RunDisplay
from pipeline.commands.tune import Tuning, tune
from pipeline.config import ConfigError
from pipeline.config.files import load
from pipeline.graph.graph import PARTS
from pipeline.metrics.trials import LOSS, WER
from pipeline.runtime import scheduler
from pipeline.runtime.node_run import NodeOutcome
from pipeline.runtime.scheduler import Outcome
from pipeline.storage.artifacts import METRICS

CONFIG = """
storage: {storage}
corpus: {{kind: synthetic}}
ssl: {{model: some/model, revision: "0000000"}}
quantizer: {{kind: {kind}, layer_weights: fixed}}
training: {{phases: [{{epochs: 3}}]}}
tracking: {{enabled: false}}
"""
DIM = "asr.dim: [32, 64, 96, 128]\n"
PARTS_READ = {f"{split}/{kind}": "x" for split in ("train", "valid") for kind in ("audio", "text")}


def pretend(build, _runs, _display):
    """Complete every node; a wider ASR model has fewer errors, and one of 96 cannot be trained."""
    outcomes = {}
    while pending := [
        node for node in build().pending() if not node.awaits and node.key not in outcomes
    ]:
        for node in pending:
            if node.name == "train_joint" and node.config.asr.dim == 96:
                outcomes[node.key] = NodeOutcome(node, "failed", error="out of memory")
                continue
            if node.stage.has_parts:
                node.artifact.write_json(PARTS, PARTS_READ)
            scores = {WER: 10 / node.config.asr.dim, LOSS: 1.0}
            node.artifact.write_json(METRICS, scores if node.name == "train_joint" else {})
            node.artifact.finish({"seconds": 1})
            outcomes[node.key] = NodeOutcome(node, "done")
    return Outcome(tuple(outcomes.values()))


@pytest.fixture
def folder(tmp_path, monkeypatch):
    storage = json.dumps(str(tmp_path / "runs"))
    for kind in ("kmeans", "dkm"):
        text = CONFIG.format(storage=storage, kind=kind)
        (tmp_path / f"{kind}.yaml").write_text(text)
    (tmp_path / "space.yaml").write_text(DIM)

    @contextmanager
    def no_ray(_cluster, console):
        with RunDisplay(console) as display:
            yield display

    monkeypatch.setattr(command, "on_ray", no_ray)
    monkeypatch.setattr(scheduler, "execute", pretend)
    monkeypatch.setattr("pipeline.graph.graph.Graph.check", lambda _graph: None)
    monkeypatch.setattr("pipeline.commands.attempts.Attempts._refuse", lambda *_: False)
    return tmp_path


def tuned(root, *names, trials=5, **options):
    files = [root / f"{name}.yaml" for name in names or ("kmeans", "dkm")]
    console = Console(width=200)
    with console.capture() as captured:
        found = tune(Tuning(files, [], root / "space.yaml", trials, **options), console)
    return found, captured.get()


def record(folder, variant):
    [path] = (folder / "runs/tuning").glob(f"{variant}-*.json")
    return json.loads(path.read_text())


def test_each_variant_has_the_same_trials_and_its_best_becomes_a_config(folder):
    found, said = tuned(folder, folder=folder / "tuned")
    assert found
    tried = {name: record(folder, name)["trials"] for name in ("kmeans", "dkm")}
    drawn = [trial["settings"] for trial in tried["kmeans"]]
    assert [trial["settings"] for trial in tried["dkm"]] == drawn
    assert drawn[0] == {}
    assert sorted(settings["asr.dim"] for settings in drawn[1:]) == [32, 64, 96, 128]
    [failed] = (trial for trial in tried["dkm"] if trial["error"])
    assert (failed["settings"], failed["error"]) == ({"asr.dim": 96}, "out of memory")
    assert "out of memory" in said
    for name in ("kmeans", "dkm"):
        # The config as it stands is 128 wide, and comes first.
        assert record(folder, name)["best"] == 1
        assert load(folder / "tuned" / f"{name}.yaml") == load(folder / f"{name}.yaml")


def test_the_best_settings_are_printed_as_yaml_and_written(folder):
    (folder / "space.yaml").write_text("asr.dim: [160]\n")
    _, said = tuned(folder, "kmeans", trials=3, folder=folder / "tuned")
    assert "space.yaml has no more than 1 settings" in said
    assert "asr:\n  dim: 160\n" in said
    assert "6.2 % (ASR loss 1.000); as it stood: 7.8 %" in said
    assert load(folder / "tuned/kmeans.yaml").asr.dim == 160
    assert "# all trials: " in (folder / "tuned/kmeans.yaml").read_text()


def test_more_trials_extend_the_record_and_train_only_what_is_new(folder):
    tuned(folder, "kmeans", trials=2)
    first = record(folder, "kmeans")["trials"]
    _, said = tuned(folder, "kmeans", trials=3)
    assert record(folder, "kmeans")["trials"][:2] == first
    assert len(record(folder, "kmeans")["trials"]) == 3
    assert "1 of 6 stages to run" in said
    tuned(folder, "kmeans", trials=2, seed=1)
    assert len(list((folder / "runs/tuning").glob("kmeans-*.json"))) == 2
    [table, _] = sorted((folder / "runs/tuning").glob("kmeans-*.md"))
    assert table.read_text().splitlines()[2].startswith("| trial | WER (%) |")


def test_a_variant_without_a_score_ends_the_command_with_a_failure(folder):
    (folder / "dkm.yaml").write_text((folder / "dkm.yaml").read_text() + "asr: {dim: 96}\n")
    found, said = tuned(folder, "dkm", "kmeans", trials=1, folder=folder / "tuned")
    assert not found
    assert "dkm: none of 1 trials has a score" in said
    assert [path.name for path in (folder / "tuned").iterdir()] == ["kmeans.yaml"]


def test_what_is_not_in_any_variant_is_refused_before_any_work(folder):
    (folder / "space.yaml").write_text("asr.dimm: [1]\n")
    with pytest.raises(ConfigError, match=r"space\.yaml:1: asr\.dimm: no variant has this key"):
        tuned(folder)
    assert not (folder / "runs").exists()
