"""A real MLflow server, and before it a proxy that delays, refuses and cuts connections."""

import math
import pickle
import subprocess
import sys
import threading

import pytest
from faulty_s3 import FaultyS3, seeded

from pipeline.config import Config, Tracking
from pipeline.storage.artifacts import artifact
from pipeline.tracking import TrackingError, TrackingSession, sender, start_stage, tracker
from pipeline.tracking.outbox import Outbox
from pipeline.tracking.spelling import spell_name
from pipeline.tracking.tracker import Tracker, connect

pytestmark = pytest.mark.slow

# The connection is cut before MLflow receives anything, as when it is down.
DOWN = "cut_request"

WORKER = """
import pickle, sys
run = pickle.loads(bytes.fromhex(sys.argv[1]))
for step in range(int(sys.argv[2]), int(sys.argv[3])):
    run.log_metrics({"loss": 1 / (1 + step), "rate": 0.1}, step)
print("logged", flush=True)
sys.stdin.read()
run.flush(float(sys.argv[4]))
"""


@pytest.fixture
def proxy(mlflow_address, monkeypatch):
    monkeypatch.setattr(sender, "_FIRST_WAIT_SECONDS", 0.05)
    monkeypatch.setattr(sender, "LONGEST_WAIT_SECONDS", 0.2)
    with FaultyS3(mlflow_address, lambda _method, _path: None) as proxy:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", proxy.url.replace("//", "//user:hunter2@"))
        yield proxy


@pytest.fixture
def config(tmp_path, request):
    return Config(
        variant=request.node.originalname,
        storage=str(tmp_path / "runs"),
        ssl={"model": str(tmp_path)},
        corpus={"kind": "manifest", "manifest": "s3://user:hunter2@host/corpus.jsonl"},
        tracking=Tracking(experiment=request.node.name),
    )


@pytest.fixture
def session(proxy, config):
    return TrackingSession(config.tracking, config.storage)


def start(session, config):
    return start_stage(session.start_variant(config), "train_joint", "0123456789abcdef")


def found(server, run):
    """A client of the server, and the ID of the run there."""
    return connect(server), Tracker(server)._record(run.run).run_id


def losses(server, run):
    client, run_id = found(server, run)
    return [(metric.step, metric.value) for metric in client.get_metric_history(run_id, "loss")]


def expected(number):
    return [(step, 1 / (1 + step)) for step in range(number)]


def log(run, steps):
    for step in steps:
        run.log_metrics({"loss": 1 / (1 + step), "rate": 0.1}, step)


def outbox_text(config):
    folder = artifact(config.storage, "tracking", "outbox")
    return b"".join(folder.filesystem.cat(folder.path(name)) for name in folder.names()).decode()


def test_one_request_of_four_fails_and_each_step_is_there_once(
    mlflow_address, proxy, session, config
):
    assert session.check()
    proxy.plan = seeded(0.25, seed=3)
    run = start(session, config)
    for step in range(0, 60, 3):
        log(run, range(max(0, step - 5), step + 3))  # as training that resumes now and then
        if step % 15 == 0:
            run.flush(0.2)
    run.finish()
    for _ in range(20):
        if not session.close():
            break
    assert proxy.faults.total() > 2
    assert losses(mlflow_address, run) == expected(60)
    client, run_id = found(mlflow_address, run)
    stored = client.get_run(run_id)
    assert stored.info.status == "FINISHED"
    experiment = client.get_experiment_by_name(config.tracking.experiment)
    assert len(client.search_runs([experiment.experiment_id])) == 2


def test_training_does_not_wait_for_a_tracker_that_hangs(mlflow_address, proxy, session, config):
    assert session.check()
    gate, asked = threading.Event(), threading.Event()

    def hang(_method, _path):
        asked.set()
        gate.wait()

    proxy.plan = hang
    run = start(session, config)
    log(run, range(200))
    assert asked.wait(30)
    assert not gate.is_set()  # every call has returned, and no request has been answered
    gate.set()
    run.flush(60)
    assert losses(mlflow_address, run) == expected(200)


def test_the_server_is_down_at_the_start_and_back_in_the_middle(
    mlflow_address, proxy, session, config, caplog
):
    proxy.plan = lambda _method, _path: DOWN
    assert not session.check()
    run = start(session, config)
    log(run, range(30))
    proxy.plan = lambda _method, _path: None
    log(run, range(30, 50))
    run.flush(60)
    assert losses(mlflow_address, run) == expected(50)
    client, run_id = found(mlflow_address, run)
    assert client.get_run(run_id).info.status == "RUNNING"
    assert caplog.text.count("does not answer") == 1
    assert "hunter2" not in caplog.text


def test_down_until_the_end_and_the_next_run_sends_it(
    mlflow_address, proxy, session, config, tmp_path
):
    proxy.plan = lambda _method, _path: DOWN
    run = start(session, config)
    (tmp_path / "config.json").write_text("{}")
    run.log_tokenizer(tmp_path)
    run.log_params({"batch_seconds": 60})
    log(run, range(40))
    run.log_audio([0.0, 0.5], 16000, "audio/one.wav")
    run.log_metrics({"test.wer": 0.25})
    run.finish("FAILED")
    assert session.close().endswith("runs/tracking/outbox")
    assert "hunter2" not in outbox_text(config)

    proxy.plan = lambda _method, _path: None
    for _ in range(2):
        again = TrackingSession(config.tracking, config.storage)
        again.send_waiting()
        again.close()
        assert Outbox(run.outbox_uri).files() == []
        assert losses(mlflow_address, run) == expected(40)
    client, run_id = found(mlflow_address, run)
    stored = client.get_run(run_id)
    assert stored.info.status == "FAILED"
    assert stored.data.params == {"batch_seconds": "60"}
    assert stored.data.metrics["test.wer"] == 0.25
    assert len(stored.outputs.model_outputs) == 1
    assert [file.path for file in client.list_artifacts(run_id, "audio")] == ["audio/one.wav"]


def test_a_worker_is_killed_and_another_offers_the_history_again(
    mlflow_address, proxy, session, config
):
    """A worker is killed while MLflow is down; the next sends again what was lost with it."""
    run = start(session, config)
    run.flush(60)

    def worker(first, last, patience_seconds=60):
        arguments = pickle.dumps(run).hex(), str(first), str(last), str(patience_seconds)
        command = [sys.executable, "-c", WORKER, *arguments]
        pipe = subprocess.PIPE
        process = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True)
        assert process.stdout.readline() == "logged\n"
        return process

    one = worker(0, 20)
    one.communicate(timeout=120)
    proxy.plan = lambda _method, _path: DOWN
    two = worker(10, 40)
    two.kill()
    two.communicate(timeout=120)
    three = worker(10, 30, patience_seconds=5)
    three.communicate(timeout=120)
    assert Outbox(run.outbox_uri).files(run.run.key)
    proxy.plan = lambda _method, _path: None
    four = worker(10, 50)
    four.communicate(timeout=120)
    assert losses(mlflow_address, run) == expected(50)
    assert Outbox(run.outbox_uri).files() == []


# A split or an utterance may be called so.
HOSTILE = [
    "test clean+é",
    "a:(b)",
    "../up",
    "/root",
    "",
    "日本語",
    "50%#1?&x",
    "a\udce9\0",
    "x" * 300,
]


def test_a_server_takes_hostile_names_and_values_and_keeps_them_apart(
    mlflow_address, proxy, session, config, caplog
):
    assert session.check()
    run = start(session, config)
    scores = {f"{name}.wer": float(index) for index, name in enumerate(HOSTILE)}
    run.log_metrics({**scores, "nan": math.nan, "more": math.inf}, 0)
    run.log_metrics(scores)
    run.log_params({**scores, "long": "ü" * 7000, "text": "a\udce9\0"})
    run.set_tags(scores)
    for name in HOSTILE:
        run.log_audio([0.0, 0.5], 16000, f"audio/{name}.wav")
    run.flush(60)
    client, run_id = found(mlflow_address, run)
    data = client.get_run(run_id).data
    assert data.metrics.pop("more") == sys.float_info.max
    assert math.isnan(data.metrics.pop("nan"))
    assert data.metrics == {spell_name(name): score for name, score in scores.items()}
    assert len(data.params) == len(scores) + 2
    assert (len(data.params["long"]), data.params["text"]) == (6000, "a\\udce9\\x00")
    assert data.tags.items() >= {spell_name(name): str(x) for name, x in scores.items()}.items()
    stored = {file.path for file in _all_files(client, run_id, "audio")}
    assert stored == {spell_name(f"audio/{name}.wav") for name in HOSTILE}
    assert caplog.text == ""


def _all_files(client, run_id, folder):
    for file in client.list_artifacts(run_id, folder):
        yield from _all_files(client, run_id, file.path) if file.is_dir else [file]


def test_a_value_that_the_server_refuses_is_named_and_takes_no_other_along(
    mlflow_address, proxy, session, config, caplog
):
    assert session.check()
    run = start(session, config)
    values = {f"m{index}": 1.0 for index in range(100)}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tracker, "spell_name", lambda name: name)
        run.log_metrics({**values, "bad!": 1.0}, 0)
        run.log_params({**values, "bad!": 1.0})
        run.flush(60)
    client, run_id = found(mlflow_address, run)
    data = client.get_run(run_id).data
    assert data.metrics == values
    assert data.params.keys() == values.keys()
    assert caplog.text.count("metric 'bad!' of train_joint was dropped") == 1
    assert caplog.text.count("parameter 'bad!' of train_joint was dropped") == 1


@pytest.mark.parametrize("fault", ["denied", "no_such_upload"])
def test_what_would_be_refused_for_ever_stops_the_run_at_its_start(proxy, session, fault):
    proxy.plan = lambda _method, _path: fault
    with pytest.raises(TrackingError, match="cannot be used") as caught:
        session.check()
    assert "hunter2" not in str(caught.value)
