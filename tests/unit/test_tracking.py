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
from pipeline.tracking import RunName, StageRun, TrackingError, TrackingSpec, outbox, sender
from pipeline.tracking.failure import RunNotFoundError
from pipeline.tracking.tracker import Tracker, connect

WRITER = """
import pickle, sys
run = pickle.loads(bytes.fromhex(sys.argv[1]))
for step in range(40):
    run.log_metrics({f"{sys.argv[2]}.loss": 1.0, f"{sys.argv[2]}.rate": 0.1}, step)
run.flush(60)
"""


@pytest.fixture(autouse=True)
def _no_server(monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)


@pytest.fixture(scope="module")
def storage(tmp_path_factory):
    """One store for all tests: making its tables takes seconds."""
    folder = tmp_path_factory.mktemp("storage")
    assert tracking.check(Tracking(), str(folder))
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


@pytest.fixture
def in_a_new_process(monkeypatch):
    """What the function says of a run is said by a process that has just come to it."""

    def pretend(run, *, leads=False):
        monkeypatch.setattr(sender, "_senders", {})
        arrived = pickle.loads(pickle.dumps(run))  # noqa: S301 - what Ray does
        if leads:
            arrived.lead()
        return arrived

    return pretend


def run_id(run):
    run.flush(60)
    return Tracker(run.uri)._record(run.run, creates=False).run_id


def stored(run):
    return connect(run.uri).get_run(run_id(run))


def history(run, key):
    return connect(run.uri).get_metric_history(run_id(run), key)


def steps(run, key):
    return [metric.step for metric in history(run, key)]


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


@pytest.mark.parametrize("uri", ["sqlite:////dev/null/x.db", "nowhere://x", "http://[::1"])
def test_a_tracker_that_can_never_work_is_one_clear_error(uri, tmp_path):
    with pytest.raises(TrackingError, match=r"cannot be used.*Check MLFLOW_TRACKING_URI"):
        tracking.check(Tracking(uri=uri), str(tmp_path))


def test_a_tracker_that_does_not_answer_is_one_warning_line(tmp_path, caplog):
    away = Tracking(uri="http://user:hunter2@127.0.0.1:9")
    assert not tracking.check(away, str(tmp_path))
    (line,) = [record.getMessage() for record in caplog.records if "MLflow" in record.getMessage()]
    assert "***@127.0.0.1:9 does not answer" in line
    assert "hunter2" not in line
    assert f"{tmp_path}/tracking/outbox" in line
    assert "next `run`" in line


def test_the_error_shows_no_password(tmp_path):
    with pytest.raises(TrackingError) as caught:
        tracking.check(Tracking(uri="nowhere://user:hunter2@x"), str(tmp_path))
    assert "hunter2" not in str(caught.value)


def test_a_deleted_experiment_is_one_clear_error(storage):
    deleted = Tracking(experiment="deleted")
    tracking.check(deleted, str(storage))
    store = connect(tracking.tracking_uri(deleted, str(storage)))
    store.delete_experiment(store.get_experiment_by_name("deleted").experiment_id)
    with pytest.raises(TrackingError, match="restore"):
        tracking.check(deleted, str(storage))


def test_a_disabled_tracker_needs_nothing_and_keeps_nothing(tmp_path, config):
    off = Tracking(enabled=False, uri="nowhere://x")
    assert not tracking.check(off, str(tmp_path))
    tracking.send_waiting(off, str(tmp_path))
    variant = tracking.start_variant(config.model_copy(update={"tracking": off}))
    stage = tracking.start_stage(variant, "train_joint", "00")
    assert not variant.enabled
    assert isinstance(stage, StageRun)
    stage.log_params({"a": 1})
    stage.log_metrics({"a": 1.0}, 0)
    stage.log_audio(np.zeros(4), 16000, "x.wav")
    stage.log_tokenizer("missing")
    stage.finish()
    stage.flush()
    assert tracking.close(off, str(tmp_path)) == ""
    assert not list(tmp_path.iterdir())


def test_a_variant_has_its_config_as_parameters_without_secrets(variant):
    params = stored(variant).data.params
    assert params["codebook.num_units"] == "64"
    assert params["training.phases.0.epochs"] == "8"
    assert params["corpus.manifest"] == "s3://***@host/corpus.jsonl"


def test_the_same_config_goes_on_in_the_same_run(config, variant, stage):
    stage.finish()
    variant.finish("FAILED")
    first, first_stage = stored(variant), stored(stage)
    assert first.info.status == "FAILED"
    wider = config.model_copy(
        update={"cluster": config.cluster.model_copy(update={"address": "x"})}
    )
    again = tracking.start_variant(wider)
    assert stored(again).info.run_id == first.info.run_id
    assert stored(again).info.status == "RUNNING"
    assert tracking.start_stage(again, "train_joint", "0123456789abcdef") == stage
    assert stored(stage).info.status == "RUNNING"
    assert stored(stage).info.run_id == first_stage.info.run_id


def test_another_config_or_digest_is_another_run(config, variant, stage):
    codebook = config.codebook.model_copy(update={"seed": 1})
    other = tracking.start_variant(config.model_copy(update={"codebook": codebook}))
    runs = [
        variant,
        stage,
        other,
        tracking.start_stage(variant, "train_joint", "ff"),
        tracking.start_stage(variant, "phone_purity", "0123456789abcdef"),
        tracking.start_stage(other, "train_joint", "0123456789abcdef"),
    ]
    assert len({run_id(run) for run in runs}) == len(runs)


def test_a_quote_in_a_name_finds_its_run_again(config, in_a_new_process):
    odd = tracking.start_variant(config.model_copy(update={"variant": "o'hara"}))
    first = run_id(odd)
    assert run_id(in_a_new_process(odd, leads=True)) == first


def test_a_stage_is_a_child_of_its_variant(variant, stage):
    tags = stored(stage).data.tags
    assert tags["mlflow.parentRunId"] == run_id(variant)
    assert tags["mlflow.runName"] == "train_joint"


def test_a_worker_makes_neither_stores_nor_experiments_nor_runs(stage, tmp_path):
    """On a machine that has no such file, it leaves all to the driver, in the storage."""
    elsewhere = f"sqlite:///{tmp_path}/mlflow.db"
    box = outbox.Outbox(str(tmp_path / "outbox"))
    worker = StageRun(elsewhere, box.uri, stage.run)
    worker.log_metrics({"loss": 1.0}, 0)
    worker.flush(60)
    assert len(box.files(stage.run.key)) == 1
    assert not (tmp_path / "mlflow.db").exists()
    fresh = dataclasses.replace(stage.run, experiment="fresh")
    with pytest.raises(RunNotFoundError, match="no experiment 'fresh'"):
        Tracker(stage.uri)._record(fresh, creates=False)
    fresh = dataclasses.replace(stage.run, tags=(("pipeline.stage_digest", "fresh"),))
    stage.flush(60)
    with pytest.raises(RunNotFoundError, match="no run 'train_joint'"):
        Tracker(stage.uri)._record(fresh, creates=False)


def test_two_drivers_that_make_a_run_at_once_end_with_one(variant, monkeypatch):
    """The other one's run appears between this one's look and its own creation."""
    run_id(variant)
    tags = (("pipeline.stage", "train_joint"), ("pipeline.stage_digest", "raced"))
    name = RunName(variant.run.experiment, "train_joint", tags, parent=variant.run)
    made = []
    search = Tracker._search

    def slow_search(self, experiment_id, tags):
        found = search(self, experiment_id, tags)
        if "pipeline.stage" in tags and not made:
            made.append(self)
            Tracker(variant.uri)._record(name, creates=True)
        return found

    monkeypatch.setattr(Tracker, "_search", slow_search)
    mine = Tracker(variant.uri)._record(name, creates=True)
    assert search(Tracker(variant.uri), mine.experiment_id, dict(tags)) == [mine.run_id]
    assert made


def test_a_resumed_run_logs_no_step_twice(stage, in_a_new_process):
    for step in range(3):
        stage.log_metrics({"loss": 1.0 / (step + 1)}, step)
    stage.flush(60)
    resumed = in_a_new_process(stage)
    for step in range(5):
        resumed.log_metrics({"loss": 9.0, "fresh": 2.0}, step)
    resumed.log_metrics({"loss": 9.0}, 4)
    assert steps(resumed, "loss") == [0, 1, 2, 3, 4]
    assert steps(resumed, "fresh") == [0, 1, 2, 3, 4]
    assert [metric.value for metric in history(stage, "loss")[:3]] == [1.0, 0.5, 1.0 / 3]


def test_an_earlier_step_that_is_missing_is_taken(stage):
    stage.log_metrics({"loss": 1.0}, 5)
    stage.flush(60)
    stage.log_metrics({"loss": 1.0}, 3)
    assert sorted(steps(stage, "loss")) == [3, 5]


def test_a_history_offered_again_costs_one_request_a_key(stage, in_a_new_process, monkeypatch):
    for step in range(300):
        stage.log_metrics({"loss": 1.0, "rate": 0.1}, step)
    stage.flush(60)
    asked, logged = [], []
    client = connect(stage.uri)
    monkeypatch.setattr(
        type(client), "log_batch", lambda _self, _run, metrics=(), **_: logged.append(len(metrics))
    )
    ask = type(client).get_metric_history
    monkeypatch.setattr(
        type(client),
        "get_metric_history",
        lambda self, run, key: asked.append(key) or ask(self, run, key),
    )
    resumed = in_a_new_process(stage)
    for step in range(302):
        resumed.log_metrics({"loss": 1.0, "rate": 0.1}, step)
    resumed.flush(60)
    assert sorted(asked) == ["loss", "rate"]
    assert sum(logged) == 4


def test_the_last_score_counts(stage):
    for score in (0.5, 0.25, 0.375):
        stage.log_metrics({"test.wer": score})
    assert stored(stage).data.metrics["test.wer"] == 0.375
    stage.log_metrics({"test.wer": 0.25})
    assert stored(stage).data.metrics["test.wer"] == 0.25


def test_a_score_that_stands_is_not_logged_again(stage):
    for _ in range(2):
        stage.log_metrics({"test.wer": 0.5})
        stage.flush(60)
    assert len(history(stage, "test.wer")) == 1


def test_a_final_score_counts_more_than_the_steps_of_another_process(
    variant, stage, in_a_new_process
):
    stage.log_params({"a": 1})
    stage.flush(60)
    leading = sender._senders
    worker = in_a_new_process(stage)
    worker.log_metrics({"loss": 0.5}, 10)
    worker.flush(60)
    sender._senders.update(leading)
    stage.log_metrics({"loss": 0.75})
    assert stored(stage).data.metrics["loss"] == 0.75
    assert steps(stage, "loss") == [10, 10]


def test_more_values_than_one_batch_holds(stage):
    stage.log_metrics({f"m{index}": 1.0 for index in range(1001)}, 0)
    stage.log_params({f"p{index}": index for index in range(101)})
    data = stored(stage).data
    assert len(data.metrics) == 1001
    assert len(data.params) == 101


def test_a_first_parameter_stands(stage):
    stage.log_params({"workers": 1})
    stage.log_params({"workers": 2, "device": "cpu", "long": "x" * 10_000})
    params = stored(stage).data.params
    assert params["workers"] == "1"
    assert params["device"] == "cpu"
    assert len(params["long"]) == 6000


def test_files_figures_and_audio_become_artifacts(stage, storage, tmp_path):
    (tmp_path / "notes.txt").write_text("x")
    stage.log_file(tmp_path / "notes.txt")
    stage.log_file(tmp_path / "notes.txt", "texts")
    (tmp_path / "notes.txt").unlink()
    stage.log_figure(Figure(), "plots/curves.png")
    stage.log_audio(np.array([0.0, 0.5, -3.0]), 16000, "audio/one.wav")
    root = storage / "mlartifacts" / run_id(stage) / "artifacts"
    names = sorted(path.relative_to(root).as_posix() for path in root.rglob("*.*"))
    assert names == ["audio/one.wav", "notes.txt", "plots/curves.png", "texts/notes.txt"]
    assert (root / "plots/curves.png").read_bytes().startswith(b"\x89PNG")
    with wave.open(str(root / "audio/one.wav")) as file:
        assert file.getframerate() == 16000
        assert np.frombuffer(file.readframes(3), "<i2").tolist() == [0, 16384, -32767]


def test_a_logged_tokenizer_loads_without_pickles(
    stage, storage, tmp_path, monkeypatch, in_a_new_process
):
    """A worker leaves it to the leading process, which stores it once."""

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
    stage.flush(60)
    for _ in range(2):
        worker = in_a_new_process(stage)
        worker.log_tokenizer(tmp_path)
        worker.flush(60)
        assert outbox.Outbox(stage.outbox_uri).files(stage.run.key)
        leading = in_a_new_process(stage, leads=True)
        leading.log_metrics({"score": 1.0})
        leading.flush(60)
        assert not outbox.Outbox(stage.outbox_uri).files(stage.run.key)

    import mlflow

    (output,) = stored(leading).outputs.model_outputs
    folder = storage / "mlartifacts" / "models" / output.model_id
    assert [path for path in folder.rglob("*") if path.suffix in {".pkl", ".pickle", ".bin"}] == []
    model = mlflow.pyfunc.load_model(str(folder / "artifacts"))
    assert model.predict([np.zeros(2), np.zeros(1)]) == [[7, 7], [7]]
    assert model.predict(np.zeros(3)) == [[7, 7, 7]]


def test_what_cannot_be_logged_costs_one_warning_line(stage, caplog):
    stage.log_metrics({"bad": "x"}, 0)
    stage.log_file("/no/such/file")
    stage.log_metrics({"good": 1.0}, 0)
    stage.log_metrics({"bad!name": 1.0}, 0)
    stage.log_metrics({"better": 1.0}, 0)
    assert set(stored(stage).data.metrics) == {"good", "better"}
    messages = [
        record.getMessage() for record in caplog.records if record.name == tracking.__name__
    ]
    assert len(messages) == 3
    assert all("\n" not in message for message in messages)
    assert "log_metrics was dropped" in messages[0]
    assert "log_file was dropped" in messages[1]
    assert "metrics of train_joint were dropped" in messages[2]


def test_a_run_shows_no_credentials(stage):
    shown = repr(TrackingSpec("http://u:hunter2@h", "outbox", stage.run))
    assert "hunter2" not in shown


def test_a_writer_waits_for_a_locked_store(stage, storage):
    stage.flush(60)
    with sqlite3.connect(storage / "mlflow.db", check_same_thread=False) as other:
        other.execute("BEGIN EXCLUSIVE")
        release = threading.Timer(1.0, other.rollback)
        release.start()
        stage.log_metrics({"loss": 1.0}, 0)
        release.join()
    assert steps(stage, "loss") == [0]


def test_a_store_that_stays_locked_is_tried_again(stage, monkeypatch, caplog):
    """MLflow itself gives up after 20 s: that is an outage like any other."""
    from mlflow.exceptions import MlflowException
    from mlflow.protos.databricks_pb2 import TEMPORARILY_UNAVAILABLE

    stage.flush(60)
    client = type(connect(stage.uri))
    log_batch, calls = client.log_batch, []

    def locked_once(self, *args, **kwargs):
        calls.append(kwargs)
        if len(calls) == 1:
            raise MlflowException("database is locked", TEMPORARILY_UNAVAILABLE)
        log_batch(self, *args, **kwargs)

    monkeypatch.setattr(client, "log_batch", locked_once)
    stage.log_metrics({"loss": 1.0}, 0)
    assert steps(stage, "loss") == [0]
    assert "database is locked" in caplog.text
    assert "answers again" in caplog.text


def test_two_processes_write_at_once(stage):
    stage.flush(60)
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", WRITER, pickle.dumps(stage).hex()]
    writers = [
        subprocess.Popen([*command, name], env=environment, stderr=subprocess.PIPE, text=True)
        for name in ("first", "second")
    ]
    for writer in writers:
        assert writer.communicate(timeout=120)[1] == ""
    for name in ("first", "second"):
        assert steps(stage, f"{name}.loss") == list(range(40))
        assert steps(stage, f"{name}.rate") == list(range(40))
    assert logging.getLogger("mlflow.store.db.utils").level == logging.CRITICAL
