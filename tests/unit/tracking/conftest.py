"""One store for all tests of tracking, and a stage whose output goes into it."""

import hashlib

import pytest

from pipeline.config import Config, Tracking
from pipeline.graph.graph import Node
from pipeline.graph.stage import Stage
from pipeline.tracking.address import tracking_uri
from pipeline.tracking.run_name import name_of_stage, name_of_variant
from pipeline.tracking.session import TrackingSession
from pipeline.tracking.tracker import Tracker


@pytest.fixture(autouse=True)
def _no_server(monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)


@pytest.fixture(scope="session")
def storage(tmp_path_factory):
    """One store for all tests: making its tables takes seconds."""
    folder = tmp_path_factory.mktemp("storage")
    Tracker(tracking_uri(Tracking(), str(folder))).ping(Tracking().experiment)
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
def uri(config):
    return tracking_uri(config.tracking, config.storage)


@pytest.fixture
def tracker(uri):
    return Tracker(uri)


@pytest.fixture
def session(config):
    return TrackingSession(config.tracking, config.storage)


@pytest.fixture
def variant(config):
    return name_of_variant(config)


@pytest.fixture
def node(config, request):
    """A stage of this test's variant."""
    stage = Stage("train_joint", 1, lambda _: {}, lambda _: {})
    digest = hashlib.sha256(request.node.name.encode()).hexdigest()[:16]
    return Node(stage, digest, config, {config.variant: ()}, {"asr": {"dim": 8}}, {})


@pytest.fixture
def stage(node, variant):
    return name_of_stage(node, variant)


@pytest.fixture
def run(tracker, stage):
    return tracker.run(stage)
