"""One store for all tests of tracking, and runs in it."""

import pickle

import pytest

from pipeline import tracking
from pipeline.config import Config, Tracking
from pipeline.tracking import sender


@pytest.fixture(autouse=True)
def _no_server(monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)


@pytest.fixture(scope="session")
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
