"""A SQLite store that other processes hold or write to at the same time."""

import logging
import os
import sqlite3
import subprocess
import sys
import threading

from stored_runs import steps

from pipeline.log.stage_log import StageLog
from pipeline.tracking.publication import StagePublication
from pipeline.tracking.publisher import Publisher
from pipeline.tracking.run_name import name_of_stage
from pipeline.tracking.tracker import connect

WRITER = """
import sys
from pipeline.tracking.run_name import RunName
from pipeline.tracking.tracker import Tracker
run = Tracker(sys.argv[1]).run(RunName("pipeline", "pipeline.stage_digest", "0123", "shared"))
for step in range(40):
    run.metrics([{"time_ms": step, "step": step, "metrics": {"loss": 1.0, "rate": 0.1}}])
"""


def test_a_publisher_waits_for_a_locked_store(uri, tracker, run, storage):
    with sqlite3.connect(storage / "mlflow.db", check_same_thread=False) as other:
        other.execute("BEGIN EXCLUSIVE")
        release = threading.Timer(1.0, other.rollback)
        release.start()
        run.metrics([{"time_ms": 0, "step": 0, "metrics": {"loss": 1.0}}])
        release.join()


def test_a_store_that_stays_locked_is_tried_again(uri, tracker, node, variant, monkeypatch):
    """MLflow itself gives up after 20 s: that is an outage like any other."""
    from mlflow.exceptions import MlflowException
    from mlflow.protos.databricks_pb2 import TEMPORARILY_UNAVAILABLE

    client = type(connect(uri))
    log_batch, calls = client.log_batch, []

    def locked_once(self, *args, **kwargs):
        calls.append(kwargs)
        if len(calls) == 1:
            raise MlflowException("database is locked", TEMPORARILY_UNAVAILABLE)
        log_batch(self, *args, **kwargs)

    monkeypatch.setattr(client, "log_batch", locked_once)
    log = StageLog(node.artifact)
    log.metrics({"loss": 1.0}, 0)
    log.flush()
    publication = StagePublication(node, variant)
    publication.stop()  # so that it ends
    publishing = Publisher(tracker)
    publishing.add(publication)
    assert publishing.close(60)
    assert steps(uri, name_of_stage(node, variant), "loss") == [0]


def test_two_processes_that_publish_the_same_at_once_leave_each_step_once(uri, storage):
    from pipeline.tracking.run_name import RunName

    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", WRITER, uri]
    writers = [
        subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    for writer in writers:
        assert writer.communicate(timeout=120)[1] == ""
    shared = RunName("pipeline", "pipeline.stage_digest", "0123", "shared")
    assert sorted(steps(uri, shared, "loss")) == list(range(40))
    assert sorted(steps(uri, shared, "rate")) == list(range(40))
    assert logging.getLogger("mlflow.store.db.utils").level == logging.CRITICAL
