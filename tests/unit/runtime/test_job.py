"""A job is submitted and followed through lost connections."""

import socket

import pytest
from fake_dashboard import LOG, fake_dashboard

pytest.importorskip("ray")

from pipeline.runtime import job
from pipeline.runtime.job import JobServer
from pipeline.runtime.package import Package
from pipeline.runtime.session import ClusterError


@pytest.fixture
def dashboard(monkeypatch):
    monkeypatch.setattr(job, "RETRY_SECONDS", 0.01)
    monkeypatch.setenv("RAY_API_SERVER_ADDRESS", "http://127.0.0.1:1")  # not the one asked for
    with fake_dashboard() as dashboard:
        yield dashboard


def follow(dashboard):
    written: list[str] = []
    said: list[str] = []
    end = JobServer(dashboard.address).follow("mine", written.append, said.append)
    return end, "".join(written), said


def test_an_interrupted_log_is_shown_once_and_completely(dashboard):
    dashboard.cuts = [2, 2, 0, 4]
    dashboard.unfinished_details = 3
    end, log, said = follow(dashboard)
    assert end.status == "SUCCEEDED"
    assert log == "".join(LOG)
    # One line for each place where it was cut.
    assert len(said) == 2
    assert all("the connection was lost" in line for line in said)


def test_a_job_that_ends_while_the_connection_is_lost_shows_its_log_to_the_end(dashboard):
    dashboard.cuts = [1]
    dashboard.end = {"status": "FAILED", "driver_exit_code": 3, "message": "why"}
    end, log, _ = follow(dashboard)
    assert (end.status, end.driver_exit_code, end.message) == ("FAILED", 3, "why")
    assert log == "".join(LOG)


def test_a_cluster_that_is_busy_is_asked_again(dashboard):
    dashboard.failing_details = 3
    assert follow(dashboard)[0].status == "SUCCEEDED"
    assert dashboard.requests.count("GET /api/jobs/mine") == 4


def test_a_cluster_that_does_not_come_back_is_given_up(dashboard, monkeypatch):
    monkeypatch.setattr(job, "GIVE_UP_SECONDS", 0.05)
    dashboard.failing_details = 10_000
    with pytest.raises(ClusterError, match=r"cannot be used .*the head is busy"):
        follow(dashboard)


def test_a_silent_log_is_no_lost_connection(dashboard, monkeypatch):
    monkeypatch.setattr(job, "SILENT_SECONDS", 0.2)
    dashboard.pauses = [0.0, 0.0, 600.0]  # a dead connection gives no sign
    dashboard.unfinished_details = 1
    _, log, said = follow(dashboard)
    assert log == "".join(LOG)
    assert said == []
    assert dashboard.requests.count("GET /api/jobs/mine/logs/tail") == 2


def test_a_job_that_ends_while_its_log_is_silent_shows_it_to_the_end(dashboard, monkeypatch):
    monkeypatch.setattr(job, "SILENT_SECONDS", 0.2)
    dashboard.pauses = [0.0, 0.0, 600.0]
    _, log, said = follow(dashboard)
    assert log == "".join(LOG)
    assert said == []


def test_a_log_that_cannot_be_read_to_its_end_is_said_to_lack_it(dashboard):
    dashboard.cuts = [1, 2]
    end, log, said = follow(dashboard)
    assert end.status == "SUCCEEDED"
    assert log == "".join(LOG[:2])
    assert said[-1] == "the last lines of the log may be missing"


@pytest.mark.parametrize(
    ("refusal", "message"),
    [
        ((401, "Unauthorized: Missing authentication token"), "Unauthorized: .*: set RAY_AUTH_"),
        ((403, "Forbidden: Invalid authentication token"), "rejects this machine .*Forbidden"),
        ((404, "nothing here"), "cannot be used .*404"),
        ((200, "<html>a web site</html>"), "is not a Ray dashboard"),
        ((200, "{}"), "is not a Ray dashboard"),
    ],
)
def test_a_refusal_is_one_message(dashboard, refusal, message):
    dashboard.refusal = refusal
    with pytest.raises(ClusterError, match=message):
        JobServer(dashboard.address)


def test_nobody_at_the_address(monkeypatch):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{free.getsockname()[1]}"
    with pytest.raises(ClusterError, match=f"no Ray cluster answers at {address} .*--address"):
        JobServer(address)


def test_a_job_that_the_cluster_refuses(dashboard):
    server = JobServer(dashboard.address)
    dashboard.refusal = 500, "Traceback (most recent call last):\n…\nValueError: exists already"
    with pytest.raises(ClusterError, match="cannot be used"):
        server.submit("mine", ("true",), Package(), {"env_vars": {}})
