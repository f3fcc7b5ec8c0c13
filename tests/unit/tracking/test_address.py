"""Where the tracker is, and what a wrong or silent one says."""

import subprocess
import sys

import pytest

from pipeline.config import Tracking
from pipeline.tracking.address import tracking_uri
from pipeline.tracking.failure import TrackingError
from pipeline.tracking.session import TrackingSession, check_one_tracker
from pipeline.tracking.tracker import connect


def test_importing_the_module_imports_no_mlflow():
    code = "import sys, pipeline.tracking.session; sys.exit('mlflow' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_the_environment_names_the_tracker_first(monkeypatch, tmp_path):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://there:5000")
    here = Tracking(uri="http://here")
    assert tracking_uri(here, str(tmp_path)) == "http://there:5000"
    assert tracking_uri(here, str(tmp_path), "http://given") == "http://given"


def test_the_default_tracker_is_sqlite_in_a_local_storage(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert tracking_uri(Tracking(), "runs") == f"sqlite:///{tmp_path}/runs/mlflow.db"
    assert tracking_uri(Tracking(), "s3://b/x") == f"sqlite:///{tmp_path}/mlruns.db"
    relative = Tracking(uri="sqlite:///here.db")
    assert tracking_uri(relative, "runs") == f"sqlite:///{tmp_path}/here.db"
    assert tracking_uri(Tracking(uri="http://h"), "runs") == "http://h"


@pytest.mark.parametrize("uri", ["sqlite:////dev/null/x.db", "nowhere://x", "http://[::1"])
def test_a_tracker_that_can_never_work_is_one_clear_error(uri, tmp_path):
    with pytest.raises(TrackingError, match=r"cannot be used.*Check MLFLOW_TRACKING_URI"):
        TrackingSession(Tracking(uri=uri), str(tmp_path)).check()


def test_a_tracker_that_does_not_answer_is_one_warning_line(tmp_path, caplog):
    away = Tracking(uri="http://user:hunter2@127.0.0.1:9")
    assert not TrackingSession(away, str(tmp_path)).check()
    (line,) = [record.getMessage() for record in caplog.records if "MLflow" in record.getMessage()]
    assert "***@127.0.0.1:9 does not answer" in line
    assert "hunter2" not in line
    assert "no stage waits for it" in line


def test_the_error_shows_no_password(tmp_path):
    with pytest.raises(TrackingError) as caught:
        TrackingSession(Tracking(uri="nowhere://user:hunter2@x"), str(tmp_path)).check()
    assert "hunter2" not in str(caught.value)


def test_a_deleted_experiment_is_one_clear_error(storage):
    deleted = Tracking(experiment="deleted")
    TrackingSession(deleted, str(storage)).check()
    store = connect(tracking_uri(deleted, str(storage)))
    store.delete_experiment(store.get_experiment_by_name("deleted").experiment_id)
    with pytest.raises(TrackingError, match="restore"):
        TrackingSession(deleted, str(storage)).check()


def test_configs_that_name_two_trackers_are_one_clear_error(config):
    other = config.model_copy(update={"tracking": Tracking(uri="http://user:hunter2@there")})
    off = config.model_copy(update={"tracking": Tracking(uri="http://x", enabled=False)})
    check_one_tracker([config, off])
    with pytest.raises(TrackingError, match="different MLflow trackers") as caught:
        check_one_tracker([config, other])
    assert "hunter2" not in str(caught.value)
