"""A real MLflow server for tests."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.request import urlopen

START_SECONDS = 300


class Server:
    """A real server over SQLite in `folder`, which may be ended and started again."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        self._folder = folder
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self._port = free.getsockname()[1]
        self.address = f"http://127.0.0.1:{self._port}"

    def start(self) -> None:
        command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1"]
        command += [f"--port={self._port}", "--workers=1"]
        command += [f"--backend-store-uri=sqlite:///{self._folder}/mlflow.db"]
        command += [f"--artifacts-destination={self._folder}/artifacts"]
        with (self._folder / "log").open("w") as log:
            self._process = subprocess.Popen(
                command, stdout=log, stderr=log, start_new_session=True
            )

    def wait_until_it_answers(self) -> None:
        deadline = time.monotonic() + START_SECONDS
        while not answers(f"{self.address}/health"):
            assert self._process.poll() is None, (self._folder / "log").read_text()
            assert time.monotonic() < deadline, (self._folder / "log").read_text()
            time.sleep(0.2)

    def end(self, how: signal.Signals = signal.SIGTERM) -> None:
        os.killpg(self._process.pid, how)  # its workers with it
        self._process.wait()


@contextmanager
def mlflow_server(folder: Path) -> Iterator[str]:
    """A real server; its address."""
    server = Server(folder)
    server.start()
    try:
        server.wait_until_it_answers()
        yield server.address
    finally:
        server.end()


def answers(url: str) -> bool:
    try:
        with urlopen(url, timeout=5) as answer:  # noqa: S310 (our own)
            return answer.status == 200
    except OSError:
        return False
