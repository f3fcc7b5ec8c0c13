import dataclasses
import json
import logging
import os
import pickle
import sqlite3
import subprocess
import sys
import threading
import types
import wave
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure

from pipeline import tracking
from pipeline.config import Config, Tracking
from pipeline.tracking import StageRun, TrackingError, TrackingSpec

WRITER = """
import sys
from pipeline import tracking
run = tracking.StageRun(sys.argv[1], sys.argv[2], sys.argv[3])
for step in range(40):
    run.log_metrics({f"{sys.argv[4]}.loss": 1.0, f"{sys.argv[4]}.rate": 0.1}, step)
"""


@pytest.fixture(autouse=True)
def _no_server(monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)


@pytest.fixture(scope="module")
def storage(tmp_path_factory):
    """One store for all tests: making its tables takes seconds."""
    folder = tmp_path_factory.mktemp("storage")
    tracking.check(Tracking(), str(folder))
    return folder


@pytest.fixture
def config(storage, request):
    return Config(
        variant=request.node.name,
        storage=str(storage),
        ssl={"model": str(storage)},
        corpus={"kind": "manifest", "manifest": "s3://user:hunter2@host/corpus.jsonl"},
    )


@pytest.fixture
def variant(config):
    return tracking.start_variant(config)


@pytest.fixture
def stage(variant):
    return tracking.start_stage(variant, "train_joint", "0123456789abcdef")


def client(run):
    return tracking._client(run.uri)


def steps(run, key):
    return [metric.step for metric in client(run).get_metric_history(run.run_id, key)]


def test_importing_the_module_imports_no_mlflow():
    code = "import sys, pipeline.tracking; sys.exit('mlflow' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_the_environment_names_the_tracker_first(monkeypatch, tmp_path):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://there:5000")
    assert tracking.tracking_uri(Tracking(uri="http://here"), str(tmp_path)) == "http://there:5000"


def test_the_default_tracker_is_sqlite_in_a_local_storage(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert tracking.tracking_uri(Tracking(), "runs") == f"sqlite:///{tmp_path}/runs/mlflow.db"
    assert tracking.tracking_uri(Tracking(), "s3://b/x") == f"sqlite:///{tmp_path}/mlruns.db"
    relative = Tracking(uri="sqlite:///here.db")
    assert tracking.tracking_uri(relative, "runs") == f"sqlite:///{tmp_path}/here.db"
    assert tracking.tracking_uri(Tracking(uri="http://h"), "runs") == "http://h"


@pytest.mark.parametrize("uri", ["sqlite:////dev/null/x.db", "nowhere://x"])
def test_a_tracker_out_of_reach_is_one_clear_error(uri, tmp_path):
    with pytest.raises(TrackingError, match=r"cannot be used.*Check MLFLOW_TRACKING_URI"):
        tracking.check(Tracking(uri=uri), str(tmp_path))


def test_the_error_shows_no_password(tmp_path):
    with pytest.raises(TrackingError) as caught:
        tracking.check(Tracking(uri="nowhere://user:hunter2@x"), str(tmp_path))
    assert "hunter2" not in str(caught.value)


def test_a_deleted_experiment_is_one_clear_error(storage):
    deleted = Tracking(experiment="deleted")
    tracking.check(deleted, str(storage))
    store = tracking._client(tracking.tracking_uri(deleted, str(storage)))
    store.delete_experiment(store.get_experiment_by_name("deleted").experiment_id)
    with pytest.raises(TrackingError, match="restore"):
        tracking.check(deleted, str(storage))


def test_a_disabled_tracker_needs_nothing_and_keeps_nothing(tmp_path, config):
    off = Tracking(enabled=False, uri="nowhere://x")
    tracking.check(off, str(tmp_path))
    variant = tracking.start_variant(config.model_copy(update={"tracking": off}))
    stage = tracking.start_stage(variant, "train_joint", "00")
    assert not variant.enabled
    assert isinstance(stage, StageRun)
    stage.log_params({"a": 1})
    stage.log_metrics({"a": 1.0}, 0)
    stage.log_audio(np.zeros(4), 16000, "x.wav")
    stage.log_tokenizer("missing")
    stage.finish()
    assert not list(tmp_path.iterdir())


def test_a_variant_has_its_config_as_parameters_without_secrets(variant):
    params = client(variant).get_run(variant.run_id).data.params
    assert params["codebook.num_units"] == "64"
    assert params["training.phases.0.epochs"] == "8"
    assert params["corpus.manifest"] == "s3://***@host/corpus.jsonl"


def test_the_same_config_goes_on_in_the_same_run(config, variant, stage):
    stage.finish()
    variant.finish("FAILED")
    assert client(variant).get_run(variant.run_id).info.status == "FAILED"
    wider = config.model_copy(
        update={"cluster": config.cluster.model_copy(update={"address": "x"})}
    )
    again = tracking.start_variant(wider)
    assert again.run_id == variant.run_id
    assert client(again).get_run(again.run_id).info.status == "RUNNING"
    assert tracking.start_stage(again, "train_joint", "0123456789abcdef") == stage
    assert client(stage).get_run(stage.run_id).info.status == "RUNNING"


def test_another_config_or_digest_is_another_run(config, variant, stage):
    codebook = config.codebook.model_copy(update={"seed": 1})
    other = tracking.start_variant(config.model_copy(update={"codebook": codebook}))
    assert other.run_id != variant.run_id
    assert tracking.start_stage(variant, "train_joint", "ff").run_id != stage.run_id
    assert tracking.start_stage(variant, "phone_purity", "0123456789abcdef").run_id != stage.run_id
    assert tracking.start_stage(other, "train_joint", "0123456789abcdef").run_id != stage.run_id


def test_a_quote_in_a_name_finds_its_run_again(config):
    odd = config.model_copy(update={"variant": "o'hara"})
    assert tracking.start_variant(odd) == tracking.start_variant(odd)


def test_a_stage_is_a_child_of_its_variant(variant, stage):
    tags = client(stage).get_run(stage.run_id).data.tags
    assert tags["mlflow.parentRunId"] == variant.run_id == stage.parent_run_id
    assert tags["mlflow.runName"] == "train_joint"


def test_a_resumed_run_logs_no_step_twice(stage):
    for step in range(3):
        stage.log_metrics({"loss": 1.0 / (step + 1)}, step)
    resumed = pickle.loads(pickle.dumps(stage))  # noqa: S301 - what Ray does
    for step in range(1, 5):
        resumed.log_metrics({"loss": 9.0, "fresh": 2.0}, step)
    assert steps(stage, "loss") == [0, 1, 2, 3, 4]
    assert steps(stage, "fresh") == [1, 2, 3, 4]
    history = client(stage).get_metric_history(stage.run_id, "loss")
    assert [metric.value for metric in history[:3]] == [1.0, 0.5, 1.0 / 3]


def test_a_copy_forgets_what_it_knew_of_the_history(stage):
    stage.log_metrics({"loss": 1.0}, 0)
    worker = pickle.loads(pickle.dumps(stage))  # noqa: S301 - what Ray does
    worker.log_metrics({"loss": 1.0}, 1)
    restarted = pickle.loads(pickle.dumps(stage))  # noqa: S301 - what Ray does
    restarted.log_metrics({"loss": 1.0}, 1)
    assert steps(stage, "loss") == [0, 1]


def test_the_last_score_counts(stage):
    stage.log_metrics({"test.wer": 0.5})
    stage.log_metrics({"test.wer": 0.25})
    assert client(stage).get_run(stage.run_id).data.metrics["test.wer"] == 0.25


def test_a_final_score_counts_more_than_its_steps(stage):
    stage.log_metrics({"loss": 0.5}, 10)
    stage.log_metrics({"loss": 0.75})
    assert client(stage).get_run(stage.run_id).data.metrics["loss"] == 0.75


def test_more_values_than_one_batch_holds(stage):
    stage.log_metrics({f"m{index}": 1.0 for index in range(1001)}, 0)
    stage.log_params({f"p{index}": index for index in range(101)})
    data = client(stage).get_run(stage.run_id).data
    assert len(data.metrics) == 1001
    assert len(data.params) == 101


def test_a_first_parameter_stands(stage):
    stage.log_params({"workers": 1})
    stage.log_params({"workers": 2, "device": "cpu"})
    assert client(stage).get_run(stage.run_id).data.params == {"workers": "1", "device": "cpu"}


def test_files_figures_and_audio_become_artifacts(stage, storage, tmp_path):
    (tmp_path / "notes.txt").write_text("x")
    stage.log_file(tmp_path / "notes.txt")
    stage.log_file(tmp_path / "notes.txt", "texts")
    stage.log_figure(Figure(), "plots/curves.png")
    stage.log_audio(np.array([0.0, 0.5, -3.0]), 16000, "audio/one.wav")
    root = storage / "mlartifacts" / stage.run_id / "artifacts"
    names = sorted(path.relative_to(root).as_posix() for path in root.rglob("*.*"))
    assert names == ["audio/one.wav", "notes.txt", "plots/curves.png", "texts/notes.txt"]
    with wave.open(str(root / "audio/one.wav")) as file:
        assert file.getframerate() == 16000
        assert np.frombuffer(file.readframes(3), "<i2").tolist() == [0, 16384, -32767]


def test_a_logged_tokenizer_loads_without_pickles(stage, storage, tmp_path, monkeypatch):
    class UnitTokenizer:
        def __init__(self, settings):
            self.settings = settings

        @classmethod
        def from_pretrained(cls, folder):
            return cls(json.loads(Path(folder, "config.json").read_text()))

        def encode(self, waveforms):
            return [np.full(len(wave), self.settings["unit"], np.uint16) for wave in waveforms]

    stand_in = types.SimpleNamespace(UnitTokenizer=UnitTokenizer)
    monkeypatch.setitem(sys.modules, "pipeline.quantizer.tokenizer", stand_in)
    (tmp_path / "config.json").write_text('{"unit": 7}')
    stage.log_tokenizer(tmp_path)

    import mlflow

    (output,) = client(stage).get_run(stage.run_id).outputs.model_outputs
    folder = storage / "mlartifacts" / "models" / output.model_id
    assert [path for path in folder.rglob("*") if path.suffix in {".pkl", ".pickle", ".bin"}] == []
    model = mlflow.pyfunc.load_model(str(folder / "artifacts"))
    assert model.predict([np.zeros(2), np.zeros(1)]) == [[7, 7], [7]]
    assert model.predict(np.zeros(3)) == [[7, 7, 7]]


def test_a_tracker_that_fails_costs_one_warning_line(stage, caplog):
    lost = dataclasses.replace(stage, run_id="no-such-run")
    with caplog.at_level(logging.WARNING, logger="pipeline.tracking"):
        lost.log_metrics({"loss": 1.0}, 0)
        lost.log_params({"a": 1})
        lost.log_file("/no/such/file")
        lost.finish()
    messages = [
        record.getMessage() for record in caplog.records if record.name == tracking.__name__
    ]
    assert len(messages) == 4
    assert all("\n" not in message for message in messages)
    assert "log_metrics was dropped" in messages[0]


def test_runs_that_cannot_start_are_disabled(config, variant, caplog):
    bad = config.model_copy(update={"tracking": Tracking(uri="nowhere://x")})
    assert not tracking.start_variant(bad).enabled
    lost = dataclasses.replace(variant, uri="nowhere://x")
    assert not tracking.start_stage(lost, "train_joint", "00").enabled
    assert "train_joint is not tracked" in caplog.text


def test_a_run_shows_no_credentials():
    assert "hunter2" not in repr(TrackingSpec("http://u:hunter2@h", "1", "2"))


def test_a_writer_waits_for_a_locked_store(stage, storage):
    with sqlite3.connect(storage / "mlflow.db", check_same_thread=False) as other:
        other.execute("BEGIN EXCLUSIVE")
        release = threading.Timer(1.0, other.rollback)
        release.start()
        stage.log_metrics({"loss": 1.0})
        release.join()
    assert steps(stage, "loss") == [0]


def test_two_processes_write_at_once(stage):
    command = [sys.executable, "-c", WRITER, stage.uri, stage.experiment_id, stage.run_id]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    writers = [
        subprocess.Popen([*command, name], env=environment, stderr=subprocess.PIPE, text=True)
        for name in ("first", "second")
    ]
    for writer in writers:
        assert writer.communicate(timeout=120)[1] == ""
    for name in ("first", "second"):
        assert steps(stage, f"{name}.loss") == list(range(40))
        assert steps(stage, f"{name}.rate") == list(range(40))
