"""`ui`: MLflow's pages, opened on the comparison of the variants."""

import os
import signal
import socket
import subprocess
import sys
import time
import webbrowser
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from urllib.request import urlopen

import psutil
from rich.console import Console

from pipeline.config import ConfigError, Tracking
from pipeline.redaction import redact
from pipeline.tracking.address import sqlite_path, tracking_uri
from pipeline.tracking.run_name import VARIANT_TAG
from pipeline.tracking.tracker import connect

START_SECONDS = 120.0
STOP_SECONDS = 10.0
# Each of MLflow's job workers takes 270 MB, and nothing here gives them a job.
ENVIRONMENT = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}


def ui(
    tracking: Tracking,
    storage: str,
    experiment: str | None,
    port: int,
    console: Console,
    *,
    opens: bool,
) -> None:
    """Serve the runs of a storage on this machine until Ctrl-C, or show where a server has them.

    Without an `experiment`, the one whose runs are the newest is shown; `opens` starts a browser.

    Raises:
        ConfigError: there is nothing to show.
    """
    uri = tracking_uri(tracking, storage)
    path = sqlite_path(uri)
    if path is not None and not path.exists():
        raise ConfigError(f"{path} does not exist: run a config with this storage first")
    page = comparison_page(uri, experiment)
    if path is None:
        _show(f"{redact(uri).rstrip('/')}/{page}", console, opens=opens)
        return
    with suppress(KeyboardInterrupt), _server(uri, port) as server:
        _show(f"http://127.0.0.1:{port}/{page}", console, opens=opens)
        console.print("Ctrl-C stops the server.")
        server.wait()


def ui_command(tracking: Tracking, storage: str) -> str:
    """The command that shows these runs, for a message."""
    uri = redact(tracking_uri(tracking, storage))
    if uri == tracking_uri(Tracking(), storage):
        return f"python -m pipeline ui --storage {storage}"
    return f"MLFLOW_TRACKING_URI={uri} python -m pipeline ui"


def comparison_page(uri: str, experiment: str | None) -> str:
    """The part of an MLflow address behind the server's name that charts all variants' scores.

    Raises:
        ConfigError: there is no such experiment, or no variant has been run.
    """
    client = connect(uri)
    experiments = [e for e in client.search_experiments() if experiment in {None, e.name}]
    runs = client.search_runs(
        [each.experiment_id for each in experiments],
        f"tags.`{VARIANT_TAG}` LIKE '%'",
        max_results=1,
        order_by=["attributes.start_time DESC"],
    )
    if not runs:
        named = f"experiment '{experiment}'" if experiment else "experiment"
        raise ConfigError(
            f"{redact(uri)} has no {named} with runs of a variant: run a config first"
        )
    return f"#/experiments/{runs[0].info.experiment_id}/runs?compareRunsMode=CHART"


@contextmanager
def _server(uri: str, port: int) -> Iterator[subprocess.Popen[bytes]]:
    """An MLflow server on loopback that answers.

    Raises:
        ConfigError: the port is taken, or the server ended or did not answer in time.
    """
    with socket.socket() as probe:  # else another server's answer would pass for this one's
        if probe.connect_ex(("127.0.0.1", port)) == 0:
            raise ConfigError(f"port {port} is taken by another program: choose one with --port")
    command = [sys.executable, "-m", "mlflow", "server", "--backend-store-uri", uri]
    command += ["--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    command += ["--uvicorn-opts", "--log-level warning"]
    server = subprocess.Popen(command, env={**os.environ, **ENVIRONMENT})  # noqa: S603 - our own arguments
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        _wait_until_it_answers(server, port)
        yield server
    finally:
        _stop(server)


def _stop(server: subprocess.Popen[bytes]) -> None:
    """End the server and its worker, which outlives the server's own end."""
    processes = [psutil.Process(server.pid)] if server.poll() is None else []
    processes += [child for process in processes for child in process.children(recursive=True)]
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            process.terminate()
    for process in psutil.wait_procs(processes, timeout=STOP_SECONDS)[1]:
        process.kill()
    server.wait()


def _wait_until_it_answers(server: subprocess.Popen[bytes], port: int) -> None:
    deadline = time.monotonic() + START_SECONDS
    while server.poll() is None and time.monotonic() < deadline:
        try:
            with urlopen(f"http://127.0.0.1:{port}/health", timeout=5):
                return
        except OSError:
            time.sleep(0.3)
    raise ConfigError(
        f"MLflow's server did not start on port {port}, as its output above says: "
        "choose another with --port if it is taken"
    )


def _show(address: str, console: Console, *, opens: bool) -> None:
    console.print(f"The comparison: {address}", markup=False, soft_wrap=True)
    if opens:
        webbrowser.open(address)
