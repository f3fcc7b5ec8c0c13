"""`ui` finds the comparison, keeps to this machine and starts no job workers."""

import socket
import subprocess
import sys

import psutil
import pytest
from chromium import chromium
from rich.console import Console

from pipeline.commands.ui import comparison_page, ui, ui_command
from pipeline.config import Config, ConfigError, Tracking
from pipeline.tracking.address import tracking_uri
from pipeline.tracking.publication import End
from pipeline.tracking.session import TrackingSession


@pytest.fixture(autouse=True)
def _no_server(monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)


@pytest.fixture(scope="module")
def storage(tmp_path_factory):
    """Runs of two experiments, the older one's first."""
    folder = tmp_path_factory.mktemp("storage")
    for experiment in ("older", "newer"):
        config = Config(
            variant="dkm",
            storage=str(folder),
            ssl={"model": "some/model", "revision": "0" * 40},
            corpus={"kind": "manifest", "manifest": "corpus.jsonl"},
            tracking={"experiment": experiment},
        )
        session = TrackingSession(config.tracking, config.storage)
        session.start(config, {})
        session.end(config, End("FINISHED"))
        assert session.close()
    return str(folder)


def test_the_newest_experiment_is_shown_unless_one_is_named(storage):
    uri = tracking_uri(Tracking(), storage)
    newest, named = comparison_page(uri, None), comparison_page(uri, "older")
    assert newest == comparison_page(uri, "newer") != named
    assert named.endswith("/runs?compareRunsMode=CHART")
    with pytest.raises(ConfigError, match="no experiment 'missing' with runs of a variant"):
        comparison_page(uri, "missing")


def test_the_command_names_what_a_storage_does_not_tell(storage):
    assert ui_command(Tracking(), storage) == f"python -m pipeline ui --storage {storage}"
    away = Tracking(uri="http://user:hunter2@there:5000")
    assert ui_command(away, storage) == (
        "MLFLOW_TRACKING_URI=http://***@there:5000 python -m pipeline ui"
    )


def test_a_storage_without_runs_is_one_clear_error(tmp_path):
    with pytest.raises(ConfigError, match=r"mlflow\.db does not exist: run a config"):
        ui(Tracking(), str(tmp_path), None, 5000, Console(), opens=False)


def test_the_runs_of_a_server_are_only_named(monkeypatch, capsys):
    monkeypatch.setattr("pipeline.commands.ui.comparison_page", lambda _uri, _name: "#/page")
    away = Tracking(uri="http://user:hunter2@there:5000/")
    ui(away, "runs", None, 5000, Console(), opens=False)
    assert capsys.readouterr().out == "The comparison: http://***@there:5000/#/page\n"


def test_a_port_that_is_taken_is_one_clear_error(storage):
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(ConfigError, match=f"port {port} is taken.*--port"):
            ui(Tracking(), storage, None, port, Console(), opens=False)


def test_an_interrupt_while_the_server_starts_ends_quietly(storage, unused_port, monkeypatch):
    def interrupt(server, _port):
        started.append(server)
        raise KeyboardInterrupt

    started = []
    monkeypatch.setattr("pipeline.commands.ui._wait_until_it_answers", interrupt)
    monkeypatch.setattr("pipeline.commands.ui.signal.signal", lambda *_: None)
    ui(Tracking(), storage, None, unused_port, Console(), opens=False)
    assert started[0].poll() is not None


@pytest.fixture
def unused_port():
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        return unused.getsockname()[1]


@pytest.mark.soak
def test_a_local_server_is_two_processes_on_loopback(storage, unused_port):
    command = [sys.executable, "-m", "pipeline", "ui", "--no-open", "--storage", storage]
    command += ["--port", str(unused_port)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        line = next(line for line in process.stdout if "comparison" in line)
        assert f"http://127.0.0.1:{unused_port}/#/experiments/" in line
        started = psutil.Process(process.pid).children(recursive=True)
        assert len(started) == 2
        addresses = {
            connection.laddr.ip
            for each in started
            for connection in each.net_connections()
            if connection.status == psutil.CONN_LISTEN
        }
        assert addresses == {"127.0.0.1"}
        _look_at(line.partition("The comparison: ")[2].strip())
    finally:
        process.terminate()
        assert process.wait(60) == 0
    assert not any(each.is_running() for each in started)


def _look_at(address):
    """The page names the variant, in a browser that has nothing to complain of."""
    with chromium() as browser:
        page, wrong = browser.new_page(), []
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.goto(address)
        page.get_by_role("link", name="dkm", exact=True).wait_for(timeout=60_000)
        assert "newer" in page.inner_text("body")
        assert wrong == []
