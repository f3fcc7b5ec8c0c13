"""What a run writes and shows holds no secret, wherever an error or a setting brings one in."""

import sys

import pytest

from pipeline import tracking
from pipeline.__main__ import main
from pipeline.config import Config, Tracking
from pipeline.corpus.adapters.manifest import ManifestCorpus
from pipeline.graph.graph import Node
from pipeline.graph.stage import Stage
from pipeline.progress import SILENT, Progress
from pipeline.runtime.node_run import Start, run_node
from pipeline.tracking import StageRun
from pipeline.tracking.outbox import Outbox

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
    outcome = run_node(node, StageRun.disabled(), SILENT, Start())
    log = (tmp_path / "toy" / "00" / "error.log").read_text()
    for text in (log, outcome.error):
        assert "part=3" in text
        assert not any(secret in text for secret in SECRETS)


def test_no_secret_is_in_what_waits_for_mlflow(config, caplog):
    session = tracking.TrackingSession(config.tracking, config.storage)
    assert not session.check()
    variant = session.start_variant(config)
    stage = tracking.start_stage(variant, "train_joint", "00")
    stage.log_params({"note": TEXT, "api_key": "hunter2"})
    rest = session.close()
    box = Outbox(rest)
    files = [box._folder.path(name) for name in box.files()]
    assert len(files) == 2
    waiting = b"".join(box._folder.filesystem.cat(path) for path in files).decode()
    assert "part=3" in waiting
    for text in (waiting, caplog.text, repr(stage)):
        assert not any(secret in text for secret in SECRETS)


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
