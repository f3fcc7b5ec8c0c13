"""A SQLite store that another process holds."""

import logging
import os
import pickle
import sqlite3
import subprocess
import sys
import threading

from stored_runs import steps

from pipeline.tracking.tracker import connect

WRITER = """
import pickle, sys
run = pickle.loads(bytes.fromhex(sys.argv[1]))
for step in range(40):
    run.log_metrics({f"{sys.argv[2]}.loss": 1.0, f"{sys.argv[2]}.rate": 0.1}, step)
run.flush(60)
"""


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
