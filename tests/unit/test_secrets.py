"""What a run writes and shows holds no secret, wherever an error or a setting brings one in."""

import sys

import pytest
from stored_runs import new_store

from pipeline.__main__ import main
from pipeline.config import Config, Tracking
from pipeline.corpus.adapters.manifest import ManifestCorpus
from pipeline.graph.graph import Node
from pipeline.graph.stage import Stage
from pipeline.log.stage_log import StageLog
from pipeline.progress import Progress
from pipeline.redaction import redact
from pipeline.runtime.node_run import Start, run_node
from pipeline.tracking.publication import End
from pipeline.tracking.session import TrackingSession

SECRETS = ("hunter2", "correct-horse", "AKIAIOSFODNN7EXAMPLE", "0123abcd")
TEXT = (
    "GET https://bucket/x?X-Amz-Signature=0123abcd&part=3 with AKIAIOSFODNN7EXAMPLE, correct-horse "
    "and s3://user:hunter2@host/x"
)


@pytest.fixture
def config(tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://user:hunter2@127.0.0.1:9")
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "correct-horse")
    config = Config(
        variant="odd",
        storage=str(tmp_path),
        corpus=ManifestCorpus(manifest="m.jsonl"),
        ssl={"model": "some/model", "revision": "0" * 40},
        tracking=Tracking(),
    )
    # A validated config takes no such texts; what is logged must be clean all the same.
    corpus = config.corpus.model_copy(update={"manifest": TEXT})
    return config.model_copy(update={"variant": "s3://user:hunter2@host/odd", "corpus": corpus})


def test_no_secret_is_in_a_failed_stages_log(config, tmp_path):
    def fail(_context):
        raise ValueError(TEXT)

    node = Node(Stage("toy", 1, lambda _: {}, fail), "00", config, {"v": ()}, {}, {})
    outcome = run_node(node, Start())
    log = (tmp_path / "toy" / "00" / "error.log").read_text()
    for text in (log, outcome.error):
        assert "part=3" in text
        assert not any(secret in text for secret in SECRETS)


def test_no_secret_is_in_what_mlflow_gets_or_waits_for(config, tmp_path, caplog, monkeypatch):
    settings = {"note": TEXT, "api_key": "hunter2"}
    node = Node(Stage("toy", 1, dict, dict), "00", config, {config.variant: ()}, settings, {})
    log = StageLog(node.artifact)
    log.progress.message(TEXT)
    log.failed(redact(TEXT))
    for uri in ("http://user:hunter2@127.0.0.1:9", new_store(tmp_path / "mlflow.db")):
        monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
        session = TrackingSession(config.tracking, config.storage)
        session.check()
        session.start(config, {"note": TEXT})
        session.follow(node)
        session.end(config, End("FAILED"))
        assert session.close() == uri.startswith("sqlite")
        stored = [path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()]
        assert any(b"part=3" in content for content in stored)
        for secret in SECRETS:
            assert not any(secret.encode() in content for content in stored)
    assert not any(secret in caplog.text for secret in SECRETS)


def test_no_secret_is_in_what_is_said(config, capsys, monkeypatch):
    progress = Progress(print)
    progress.message(TEXT)
    progress.update(note=TEXT)
    monkeypatch.setattr(sys, "argv", ["pipeline", "run", f"{TEXT}.yaml"])
    with pytest.raises(SystemExit):
        main()
    said = capsys.readouterr()
    for text in (said.out, said.err):
        assert "part=3" in text
        assert not any(secret in text for secret in SECRETS)
