"""A stage's run from its output alone: while it grows, when it ends, and on another server."""

import json
import sqlite3
import sys
import types
import wave
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import ENDPOINT_NOT_FOUND
from stored_runs import history, new_store, steps, stored

from pipeline.log.stage_log import StageLog
from pipeline.storage.artifacts import METRICS
from pipeline.storage.leases import Lease
from pipeline.storage.owner import Owner
from pipeline.tracking.publication import StagePublication
from pipeline.tracking.run_name import name_of_variant
from pipeline.tracking.tracker import Tracker, connect


def publication_of(node):
    return StagePublication(node, name_of_variant(node.config))


@pytest.fixture
def publication(node):
    return publication_of(node)


@pytest.fixture
def output(node):
    return node.artifact


def finish(output, scores):
    output.write_json(METRICS, scores)
    output.finish({"versions": {"python": "3.11", "torch": "2.11"}})


def test_a_stage_is_followed_to_its_end(uri, tracker, output, publication, stage):
    log = StageLog(output)
    log.started()
    assert not publication.publish(tracker)
    assert stored(uri, stage).info.status == "RUNNING"
    log.metrics({"train.loss": 0.5, "bad": float("nan")}, 1)
    log.flush()
    assert not publication.publish(tracker)
    assert steps(uri, stage, "train.loss") == [1]
    log.metrics({"train.loss": 0.25}, 2)
    log.flush()
    finish(output, {"train.loss": 0.125})
    assert publication.publish(tracker)
    run = stored(uri, stage)
    assert run.info.status == "FINISHED"
    assert run.data.metrics == {"train.loss": 0.125}
    assert run.data.params == {"asr.dim": "8"}
    assert run.data.tags["pipeline.version.torch"] == "2.11"
    assert [metric.value for metric in history(uri, stage, "train.loss")] == [0.5, 0.25, 0.125]


def test_a_stage_that_ends_while_it_is_published_is_published_again(
    tracker, output, publication, monkeypatch
):
    StageLog(output).started()

    def end(*_):
        finish(output, {"wer": 0.25})
        publication.stop()

    run = tracker.run(publication.name)
    monkeypatch.setattr(run, "metrics", end)  # after `publish` has found the stage incomplete
    assert not publication.publish(tracker)
    assert run.status == "RUNNING"
    assert publication.publish(tracker)
    assert run.status == "FINISHED"


def test_another_runs_stage_that_ends_while_it_is_published_was_not_killed(
    tracker, output, publication, monkeypatch
):
    StageLog(output).started()
    lease = Lease(output, Owner.this_process())
    assert lease.take()
    publication.stop()

    def end(*_):
        finish(output, {"wer": 0.25})
        lease.release()

    run = tracker.run(publication.name)
    monkeypatch.setattr(run, "metrics", end)
    assert publication.publish(tracker)
    assert run.status == "RUNNING"


def test_what_was_published_is_left_as_it_is(uri, output, node, stage):
    StageLog(output).metrics({"loss": 0.5}, 1)
    finish(output, {"wer": 0.25})
    for _ in range(2):
        assert publication_of(node).publish(Tracker(uri))
        assert steps(uri, stage, "loss") == [1]
        assert steps(uri, stage, "wer") == [0]


def test_steps_that_were_logged_again_count_once(uri, tracker, output, publication, stage):
    for value in (0.5, 0.75):  # the second training went on from before the first one's end
        log = StageLog(output)
        for step in range(3):
            log.metrics({"loss": value}, step)
        log.flush()
        publication.publish(tracker)
    assert [metric.value for metric in history(uri, stage, "loss")] == [0.5, 0.5, 0.5]


@pytest.mark.parametrize("stopped", [True, False])
def test_a_stage_that_fails_or_is_killed_says_so(tracker, output, publication, stopped):
    log = StageLog(output)
    log.metrics({"loss": 0.5}, 1)
    if stopped:
        publication.stop()
    else:
        log.failed("the disk is full")
    assert publication.publish(tracker) == stopped
    run = stored(tracker.uri, publication.name)
    assert run.info.status == ("KILLED" if stopped else "FAILED")
    assert run.info.end_time > run.info.start_time - 1000
    assert run.data.metrics == {"loss": 0.5}


def test_a_stage_that_starts_again_runs_again_and_is_followed(uri, output, publication, stage):
    """It is looked at before it has begun, as its process takes a while to start."""
    log = StageLog(output)
    log.failed("the disk is full")
    tracker = Tracker(uri)
    assert not publication.publish(tracker)
    assert stored(uri, stage).info.status == "FAILED"
    log.started()
    assert not publication.publish(tracker)
    assert stored(uri, stage).info.status == "RUNNING"
    finish(output, {"wer": 0.25})
    assert publication.publish(tracker)
    assert stored(uri, stage).info.status == "FINISHED"


def test_an_emptied_store_and_another_one_get_all_of_it(tracker, node, tmp_path):
    uri, output = tracker.uri, node.artifact
    log = StageLog(output)
    log.metrics({"loss": 0.5}, 1)
    log.figure(Figure(), "curves.png")
    log.flush()
    publication = publication_of(node)
    assert not publication.publish(tracker)
    first = stored(uri, publication.name)
    connect(uri).delete_run(first.info.run_id)
    with sqlite3.connect(uri.removeprefix("sqlite:///")) as store:
        store.execute("DELETE FROM runs WHERE run_uuid = ?", (first.info.run_id,))
    finish(output, {"wer": 0.25})
    with pytest.raises(Exception, match="not found"):
        publication.publish(tracker)
    tracker.forget()
    publication.forget()
    assert publication.publish(tracker)
    elsewhere = new_store(tmp_path / "other.db")
    assert publication_of(node).publish(Tracker(elsewhere))
    for address in (uri, elsewhere):
        run = stored(address, publication.name)
        assert run.info.run_id != first.info.run_id
        assert run.info.start_time <= first.info.start_time
        assert run.data.metrics == {"loss": 0.5, "wer": 0.25}
        files = connect(address).list_artifacts(run.info.run_id)
        assert [file.path for file in files] == ["curves.png"]


def test_figures_and_audio_become_artifacts(tracker, output, publication, storage):
    log = StageLog(output)
    log.figure(Figure(), "plots/curves.png")
    log.figure(Figure(), f"purity-{'é' * 80}.png")
    with output.write("audio/one.wav") as file, wave.open(file, "wb") as made:
        made.setparams((1, 2, 16000, 0, "NONE", ""))
        made.writeframes(np.array([0, 16384, -32767], "<i2").tobytes())
    log.file("audio/one.wav")
    log.flush()
    for _ in range(2):
        publication.publish(tracker)
        publication.forget()
    root = storage / "mlartifacts" / tracker.run(publication.name).run_id / "artifacts"
    names = sorted(path.relative_to(root).as_posix() for path in root.rglob("*.*"))
    assert [name[:8] for name in names] == ["audio/on", "plots/cu", "purity-é"]
    assert (root / "plots/curves.png").read_bytes().startswith(b"\x89PNG")
    assert (root / "audio/one.wav").read_bytes() == Path(output.path("audio/one.wav")).read_bytes()


def test_a_file_that_mlflow_does_not_take_is_left_out_in_the_end(
    tracker, output, publication, caplog, monkeypatch
):
    def refuse(*_):
        raise PermissionError("no rights to s3://user:hunter2@store")

    monkeypatch.setattr(type(connect(tracker.uri)), "log_artifact", refuse)
    StageLog(output).file("metrics.json")
    finish(output, {"wer": 0.25})
    for _ in range(2):
        with pytest.raises(PermissionError):
            publication.publish(tracker)
    assert publication.publish(tracker)
    assert stored(tracker.uri, publication.name).info.status == "FINISHED"
    [line] = [record.getMessage() for record in caplog.records]
    assert line.startswith("MLflow: 'metrics.json' of train_joint was left out: PermissionError")
    assert "hunter2" not in line


def test_each_file_is_tried_as_often_and_the_others_are_stored(
    tracker, output, publication, caplog, monkeypatch
):
    """Also where MLflow refuses the request, as an old server does that knows no logged models."""
    client, tried = type(connect(tracker.uri)), []
    log_artifact = client.log_artifact

    def store(self, run_id, path, folder):
        tried.append(Path(path).name)
        if "bad" in path:
            raise PermissionError(path)
        log_artifact(self, run_id, path, folder)

    def refuse(*_, **__):
        tried.append("tokenizer")
        raise MlflowException("no such endpoint", ENDPOINT_NOT_FOUND)

    monkeypatch.setattr(client, "log_artifact", store)
    monkeypatch.setattr(client, "create_logged_model", refuse)
    log = StageLog(output)
    for name in ("bad.png", "good.png", "bad too.png"):
        log.figure(Figure(), name)
    output.write_json("tokenizer/config.json", {})
    log.flush()
    finish(output, {"wer": 0.25})
    for _ in range(2):
        with pytest.raises(PermissionError):
            publication.publish(tracker)
        publication.forget()  # as after a refusal
    assert publication.publish(tracker)
    assert Counter(tried) == {"bad.png": 3, "bad too.png": 3, "tokenizer": 3, "good.png": 1}
    assert stored(tracker.uri, publication.name).info.status == "FINISHED"
    assert len(caplog.records) == 3


def test_an_outage_does_not_count_against_a_file(tracker, output, publication, monkeypatch):
    def fail(*_):
        raise ConnectionRefusedError

    StageLog(output).file("metrics.json")
    finish(output, {"wer": 0.25})
    with monkeypatch.context() as away:
        away.setattr(type(connect(tracker.uri)), "log_artifact", fail)
        away.setattr(tracker, "ping", fail)
        for _ in range(4):
            with pytest.raises(ConnectionRefusedError):
                publication.publish(tracker)
    assert publication.publish(tracker)
    run = stored(tracker.uri, publication.name)
    assert [file.path for file in connect(tracker.uri).list_artifacts(run.info.run_id)]


def test_a_tokenizer_is_logged_once_and_loads_without_pickles(
    uri, output, node, storage, monkeypatch
):
    class UnitTokenizer:
        def __init__(self, settings):
            self.settings = settings

        @classmethod
        def from_pretrained(cls, folder):
            return cls(json.loads(Path(folder, "config.json").read_text()))

        def encode(self, waveforms):
            return [np.full(len(wave), self.settings["unit"], np.uint16) for wave in waveforms]

    stand_in = types.SimpleNamespace(UnitTokenizer=UnitTokenizer)
    monkeypatch.setitem(sys.modules, "pipeline.tokenizer.unit_tokenizer", stand_in)
    output.write_json("tokenizer/config.json", {"unit": 7})
    for _ in range(2):
        finish(output, {})
        tracker = Tracker(uri)
        publication = publication_of(node)
        assert publication.publish(tracker)
        tracker.run(publication.name).set_status("RUNNING")  # as if all had to be published again

    import mlflow

    (logged,) = stored(uri, publication.name).outputs.model_outputs
    folder = storage / "mlartifacts" / "models" / logged.model_id
    assert [path for path in folder.rglob("*") if path.suffix in {".pkl", ".pickle", ".bin"}] == []
    monkeypatch.setattr(sys, "path", [*sys.path])  # loading adds to it
    model = mlflow.pyfunc.load_model(str(folder / "artifacts"))
    assert model.predict([{"waveform": np.zeros(2)}, {"waveform": [0.5]}]) == [[7, 7], [7]]
    assert model.predict({"waveform": np.zeros(3, np.float32)}) == [[7, 7, 7]]
    with pytest.raises(mlflow.exceptions.MlflowException, match="missing inputs \\['waveform'\\]"):
        model.predict(np.zeros(3))
