"""One store for all tests of tracking, and runs in it."""

import dataclasses
import pickle

import pytest

from pipeline import tracking
from pipeline.config import Config, Tracking
from pipeline.tracking import TrackingSession
from pipeline.tracking.sender import Sender


@pytest.fixture(autouse=True)
def _no_server(monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)


@pytest.fixture(scope="session")
def storage(tmp_path_factory):
    """One store for all tests: making its tables takes seconds."""
    folder = tmp_path_factory.mktemp("storage")
    assert TrackingSession(Tracking(), str(folder)).check()
    return folder


@pytest.fixture
def config(storage, request):
    return Config(
        variant=request.node.originalname,
        storage=str(storage),
        ssl={"model": str(storage)},
        corpus={"kind": "manifest", "manifest": "s3://user:hunter2@host/corpus.jsonl"},
    )


@pytest.fixture
def session(config):
    return TrackingSession(config.tracking, config.storage)


@pytest.fixture
def variant(session, config):
    return session.start_variant(config)


@pytest.fixture
def stage(variant):
    return tracking.start_stage(variant, "train_joint", "0123456789abcdef")


@pytest.fixture
def in_a_new_process():
    """The run as a process has it that was just given it."""

    def pretend(run, *, leads=False):
        arrived = pickle.loads(pickle.dumps(run))  # noqa: S301 - what Ray does
        leader = Sender(run.uri, run.outbox_uri, leads=True)
        return dataclasses.replace(arrived, sender=leader) if leads else arrived

    return pretend
