"""A real MLflow server, and before it a proxy that delays, refuses and cuts connections."""

import threading
import time

import pytest
from faulty_s3 import FaultyS3, seeded

from pipeline.config import Config, Tracking
from pipeline.graph.graph import Node
from pipeline.graph.stage import Stage
from pipeline.log.stage_log import StageLog
from pipeline.storage.artifacts import METRICS
from pipeline.tracking import publisher
from pipeline.tracking.failure import TrackingError
from pipeline.tracking.publication import End
from pipeline.tracking.run_name import name_of_stage, name_of_variant
from pipeline.tracking.session import TrackingSession
from pipeline.tracking.spelling import spell_name
from pipeline.tracking.tracker import Tracker, connect

pytestmark = pytest.mark.slow

# The connection is cut before MLflow receives anything, as when it is down.
DOWN = "cut_request"
PATIENCE_SECONDS = 240.0


# A split may be called so.
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


@pytest.fixture
def proxy(mlflow_address, monkeypatch):
    for name in ("LOOK_SECONDS", "WAIT_AT_THE_END_SECONDS"):
        monkeypatch.setattr(publisher, name, 0.1)
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
def node(config):
    stage = Stage("train_joint", 1, lambda _: {}, lambda _: {})
    return Node(stage, "0123456789abcdef", config, {config.variant: ()}, {"asr": {"dim": 8}}, {})


@pytest.fixture
def stored(mlflow_address, config, node):
    """What the server has of the stage."""

    class Stored:
        name = name_of_stage(node, name_of_variant(config))
        client = connect(mlflow_address)

        @property
        def run(self):
            return self.client.get_run(Tracker(mlflow_address).run(self.name).run_id)

        @property
        def losses(self):
            history = self.client.get_metric_history(self.run.info.run_id, "loss")
            return [(metric.step, metric.value) for metric in history]

    return Stored()


def session_of(config):
    return TrackingSession(config.tracking, config.storage)


def follow(session, node):
    session.start(node.config, {})
    session.follow(node)


def log_steps(log, steps):
    for step in steps:
        log.metrics({"loss": 1 / (1 + step), "rate": 0.1}, step)
    log.flush()


def expected(number):
    return [(step, 1 / (1 + step)) for step in range(number)]


def finish(node, **scores):
    node.artifact.write_json(METRICS, scores)
    node.artifact.finish({"versions": {}})


def close(session, node):
    session.end(node.config, End("FINISHED"))
    return session.close()


def until(happened):
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not happened():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_one_request_of_four_fails_and_each_step_is_there_once(proxy, node, stored):
    session = session_of(node.config)
    assert session.check()
    proxy.plan = seeded(0.25, seed=3)
    follow(session, node)
    for step in range(0, 60, 3):  # as training that resumes now and then
        log_steps(StageLog(node.artifact), range(max(0, step - 5), step + 3))
        time.sleep(0.1)
    finish(node, wer=0.25)
    for _ in range(20):
        if close(session, node):
            break
        session = session_of(node.config)
        follow(session, node)
    assert proxy.faults.total() > 2
    assert stored.losses == expected(60)
    run = stored.run
    assert run.info.status == "FINISHED"
    assert run.data.metrics["wer"] == 0.25
    assert len(stored.client.search_runs([run.info.experiment_id])) == 2


def test_a_stage_does_not_wait_for_a_server_that_hangs(proxy, node, stored):
    session = session_of(node.config)
    assert session.check()
    gate, asked = threading.Event(), threading.Event()

    def hang(_method, _path):
        asked.set()
        gate.wait()

    proxy.plan = hang
    follow(session, node)
    assert asked.wait(PATIENCE_SECONDS)
    log_steps(StageLog(node.artifact), range(200))
    finish(node)
    assert not gate.is_set()  # the stage has ended, and no request has been answered
    gate.set()
    assert close(session, node)
    assert stored.losses == expected(200)


def test_the_server_is_down_at_the_start_and_back_in_the_middle(proxy, node, stored, caplog):
    proxy.plan = lambda _method, _path: DOWN
    session, log = session_of(node.config), StageLog(node.artifact)
    assert not session.check()
    follow(session, node)
    log_steps(log, range(30))
    proxy.plan = lambda _method, _path: None
    log_steps(log, range(30, 50))
    until(lambda: stored.losses == expected(50))
    assert stored.run.info.status == "RUNNING"
    assert caplog.text.count("does not answer") == 1
    assert "hunter2" not in caplog.text
    assert close(session, node)
    assert stored.run.info.status == "KILLED"


def test_down_until_the_end_and_another_session_publishes_it(proxy, node, stored):
    proxy.plan = lambda _method, _path: DOWN
    session, log = session_of(node.config), StageLog(node.artifact)
    follow(session, node)
    log_steps(log, range(40))
    with node.artifact.write("audio/one.wav") as file:
        file.write(b"RIFF")
    log.file("audio/one.wav")
    log.flush()
    node.artifact.write_json("tokenizer/config.json", {})
    finish(node, **{"test.wer": 0.25})
    assert not close(session, node)
    assert session_of(node.config).left_over([node.config])
    assert b"hunter2" not in b"".join(
        node.artifact.filesystem.cat(node.artifact.path(name)) for name in node.artifact.names()
    )

    proxy.plan = lambda _method, _path: None
    for _ in range(2):
        again = session_of(node.config)
        follow(again, node)
        assert close(again, node)
        assert not again.left_over([node.config])
        assert stored.losses == expected(40)
    run = stored.run
    assert run.info.status == "FINISHED"
    assert run.data.params == {"asr.dim": "8"}
    assert run.data.metrics["test.wer"] == 0.25
    assert len(run.outputs.model_outputs) == 1
    files = stored.client.list_artifacts(run.info.run_id, "audio")
    assert [file.path for file in files] == ["audio/one.wav"]


def test_a_server_that_was_emptied_gets_everything_again(proxy, node, stored):
    session, log = session_of(node.config), StageLog(node.artifact)
    follow(session, node)
    log_steps(log, range(20))
    until(lambda: stored.losses == expected(20))
    first = stored.run.info.run_id
    stored.client.delete_run(first)
    log_steps(log, range(20, 30))
    until(lambda: stored.losses == expected(30))
    assert stored.run.info.run_id != first
    finish(node)
    assert close(session, node)


def test_a_server_takes_hostile_names_and_keeps_them_apart(proxy, node, stored, caplog):
    session = session_of(node.config)
    assert session.check()
    log = StageLog(node.artifact)
    scores = {f"{name}.wer": float(index) for index, name in enumerate(HOSTILE)}
    log.metrics(scores, 0)
    for index in range(2):
        with node.artifact.write(f"audio/é{index}.wav") as file:
            file.write(b"RIFF")
        log.file(f"audio/é{index}.wav")
    log.flush()
    finish(node, **scores)
    follow(session, node)
    assert close(session, node)
    run = stored.run
    assert run.data.metrics == {spell_name(name): score for name, score in scores.items()}
    files = stored.client.list_artifacts(run.info.run_id, "audio")
    assert {file.path for file in files} == {spell_name(f"audio/é{i}.wav") for i in range(2)}
    assert caplog.text == ""


@pytest.mark.parametrize("fault", ["denied", "no_such_upload"])
def test_what_would_be_refused_for_ever_stops_the_run_at_its_start(proxy, config, fault):
    proxy.plan = lambda _method, _path: fault
    with pytest.raises(TrackingError, match="cannot be used") as caught:
        session_of(config).check()
    assert "hunter2" not in str(caught.value)
