"""A tuning from config file to tuned config, on a real Ray: trials in MLflow, reuse, what fails."""

import json
from pathlib import Path

import pytest
from rich.console import Console
from support import SMALL_ASR, save_tiny_ssl, write_tone_manifest

from pipeline.commands.tune import Tuning, tune
from pipeline.config.files import load
from pipeline.config.yaml_file import write_yaml
from pipeline.graph.graph import build
from pipeline.tracking.tracker import connect

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("local_ray")]


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("tune")
    ssl = save_tiny_ssl(folder / "ssl")
    manifest = write_tone_manifest(folder / "audio", {"train": 8, "valid": 4, "test": 2})
    config = {
        "variant": "kmeans",
        "storage": str(folder / "runs"),
        "corpus": {"kind": "manifest", "manifest": str(manifest)},
        "ssl": {"model": str(ssl)},
        "codebook": {"num_units": 8},
        "quantizer": {"kind": "kmeans", "layer_weights": "fixed"},
        "asr": SMALL_ASR,
        "training": {"phases": [{"epochs": 1}], "batch_seconds": 2.5},
        "vocoder": {"enabled": False},
        "tracking": {"experiment": "tones"},
        "cluster": {"extraction_workers": 1, "codebook_workers": 1},
    }
    (folder / "kmeans.yaml").write_text(write_yaml([config]))
    # The second choice needs more frames than there are, the third contradicts the number of heads.
    space = {"codebook.num_units": [4, 60_000], "asr.dim": [16, 15]}
    (folder / "space.yaml").write_text(write_yaml([space]))
    return folder


@pytest.fixture(scope="module")
def tuned(folder, mlflow_address):
    """How the first call ended, and what it and a second one said."""
    tuning = Tuning([folder / "kmeans.yaml"], [], folder / "space.yaml", 5, folder=folder / "tuned")
    said = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", mlflow_address)
        patch.setattr("pipeline.commands.run.signal.signal", lambda *_: None)
        for _ in range(2):
            console = Console(width=300)
            with console.capture() as captured:
                assert tune(tuning, console)
            said.append(captured.get())
    return said


def record(folder):
    [path] = (folder / "runs/tuning").glob("kmeans-*.json")
    return json.loads(path.read_text())


def test_every_setting_is_a_trial_and_what_cannot_be_has_a_reason(folder, tuned):
    kept = record(folder)
    by_settings = {tuple(trial["settings"].values()): trial["error"] for trial in kept["trials"]}
    assert set(by_settings) == {(), (4, 16), (4, 15), (60_000, 16), (60_000, 15)}
    assert by_settings[()] == by_settings[4, 16] == ""
    assert "space.yaml" in by_settings[4, 15]
    assert "codebook.num_units" in by_settings[60_000, 16]
    assert kept["space"] == {"codebook.num_units": [4, 60_000], "asr.dim": [16, 15]}
    for trial in kept["trials"]:
        assert bool(trial["scores"]) != bool(trial["error"])
    assert "as it stood" in tuned[0]


def test_the_best_is_a_config_whose_training_run_finds_done(folder, tuned):
    kept = record(folder)
    best = next(trial for trial in kept["trials"] if trial["number"] == kept["best"])
    graph = build([load(folder / "tuned/kmeans.yaml")])
    [member] = graph.members_of("kmeans")
    trained = member.nodes["train_joint"]
    assert best["digests"] == [trained.digest]
    assert trained.artifact.is_complete()
    assert trained.artifact.metrics()["valid.wer"] == best["scores"]["valid.wer"]
    assert not member.nodes["evaluate_asr/test"].artifact.is_complete()


def test_nothing_is_made_from_a_test_split(folder, tuned):
    manifests = [
        json.loads(path.read_text()) for path in (folder / "runs").glob("*/*/manifest.json")
    ]
    assert {manifest["stage"] for manifest in manifests} == {
        "prepare_corpus",
        "extract_features",
        "fit_codebook",
        "train_joint",
    }
    assert {manifest["split"] for manifest in manifests} == {"", "train", "valid"}


def test_a_second_call_trains_nothing_and_says_the_same(tuned):
    first, second = tuned
    assert "0 of 7 stages to run" in second
    assert (
        first[first.index("trials, best first") :] == second[second.index("trials, best first") :]
    )


def test_each_trial_is_a_run_in_mlflow(folder, tuned, mlflow_address):
    client = connect(mlflow_address)
    experiment = client.get_experiment_by_name("tones-tuning")
    runs = client.search_runs([experiment.experiment_id])
    trials = {run.info.run_name: run for run in runs if "trial" in run.info.run_name}
    kept = {f"kmeans trial {trial['number']}": trial for trial in record(folder)["trials"]}
    tried = [name for name, trial in kept.items() if trial["scores"]]
    for name in tried:
        data = trials[name].data
        assert trials[name].info.status == "FINISHED"
        wer = 100 * kept[name]["scores"]["valid.wer"]
        assert data.metrics["valid/WER in percent"] == pytest.approx(wer)
    [drawn] = (name for name in tried if kept[name]["settings"])
    assert trials[drawn].data.params["codebook.num_units"] == "4"
    assert client.get_experiment_by_name("tones") is None
