"""The thread that publishes, before an MLflow that fails as told."""

import threading
import time

import pytest
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import RESOURCE_DOES_NOT_EXIST

from pipeline.tracking import publisher
from pipeline.tracking.publisher import Publisher
from pipeline.tracking.run_name import RunName

PATIENCE_SECONDS = 20.0


class StandIn:
    """An MLflow that answers unless `fault` is an error; waits while `gate` is closed."""

    uri = "http://user:hunter2@tracker"

    def __init__(self):
        self.fault = None
        self.gate = threading.Event()
        self.gate.set()
        self.asked = threading.Event()
        self.pings = 0
        self.forgotten = 0

    def answer(self):
        self.asked.set()
        self.gate.wait()
        if self.fault is not None:
            raise self.fault

    def ping(self, _experiment):
        self.pings += 1
        self.answer()

    def forget(self):
        self.forgotten += 1


class Growing:
    """Something that grows until it ends; what is published of it is kept."""

    def __init__(self, name="train_joint"):
        self.name = RunName("pipeline", "pipeline.stage_digest", name, name)
        self.written, self.published = [], []
        self.ended = False
        self.fault = None
        self._next = 0

    def publish(self, tracker):
        tracker.answer()
        if self.fault is not None:
            raise self.fault
        ended = self.ended
        self.published += self.written[self._next :]
        self._next = len(self.written)
        return ended

    def forget(self):
        self._next, self.published = 0, []

    def stop(self):
        pass


@pytest.fixture(autouse=True)
def _short_waits(monkeypatch):
    for name in ("LOOK_SECONDS", "WAIT_AT_THE_END_SECONDS"):
        monkeypatch.setattr(publisher, name, 0.002)


@pytest.fixture
def tracker():
    return StandIn()


@pytest.fixture
def publishing(tracker):
    made = Publisher(tracker)
    yield made
    tracker.gate.set()
    made.close(PATIENCE_SECONDS)


def until(happened):
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not happened():
        assert time.monotonic() < deadline
        time.sleep(0.001)


def test_what_grows_is_published_until_it_ends(publishing):
    one, other = Growing(), Growing("phone_purity")
    for each in (one, other):
        publishing.add(each)
    for step in range(3):
        one.written.append(step)
        until(lambda: one.published == one.written)
    for each in (one, other):
        each.ended = True
    assert publishing.close(PATIENCE_SECONDS)


def test_whoever_works_waits_for_nobody(publishing, tracker):
    tracker.gate.clear()
    one = Growing()
    publishing.add(one)
    assert tracker.asked.wait(PATIENCE_SECONDS)
    publishing.add(Growing("phone_purity"))
    one.written += range(500)  # all that is written meanwhile is in the storage
    assert not publishing.close(0.01)
    assert one.published == []


def test_an_outage_is_told_once_and_made_up_for(publishing, tracker, caplog):
    tracker.fault = ConnectionRefusedError("nobody there")
    one = Growing()
    one.written.append(1)
    publishing.add(one)
    until(lambda: tracker.pings > 3)
    tracker.fault = None
    one.written.append(2)
    until(lambda: one.published == [1, 2] and len(caplog.records) == 2)
    lines = [record.getMessage() for record in caplog.records]
    assert "***@tracker does not answer (ConnectionRefusedError: nobody there)" in lines[0]
    assert "answers again" in lines[1]
    assert "hunter2" not in caplog.text
    assert tracker.forgotten == 0


def test_a_run_that_ends_does_not_wait_for_a_server_that_is_down(publishing, tracker):
    tracker.fault = ConnectionRefusedError("nobody there")
    one = Growing()
    one.ended = True
    publishing.add(one)
    until(lambda: tracker.pings > 3)
    asked = tracker.pings
    assert not publishing.close(PATIENCE_SECONDS)
    assert tracker.pings <= asked + 3


def test_a_store_that_refuses_what_it_had_gets_everything_anew(publishing, tracker):
    """It was emptied, or is another one."""
    done, one = Growing("extract_features"), Growing()
    done.written, done.ended = [1], True
    one.written = [1]
    for each in (done, one):
        publishing.add(each)
    until(lambda: done.published == one.published == [1])
    done.written.append(2)
    one.fault = MlflowException("no such run", RESOURCE_DOES_NOT_EXIST)
    until(lambda: tracker.forgotten)
    one.fault = None
    until(lambda: done.published == [1, 2] and one.published == [1])


def test_what_fails_alone_does_not_hold_up_the_others(publishing, caplog):
    bad, good = Growing("train_joint"), Growing("phone_purity")
    bad.fault = ValueError("log/0.jsonl is damaged")
    for each in (bad, good):
        publishing.add(each)
    for step in range(20):
        good.written.append(step)
        until(lambda: good.published == good.written)
    until(lambda: caplog.records)
    good.ended = True
    assert not publishing.close(PATIENCE_SECONDS)
    [line] = [record.getMessage() for record in caplog.records]
    assert line == "MLflow: train_joint is not published yet: ValueError: log/0.jsonl is damaged"
