"""`run`s in processes of their own: two on one storage make each output once, one goes on where
another was killed, and what they start is out of the network's reach.
"""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import pytest
import yaml
from listening import is_loopback, listening

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

ROOT = Path(__file__).resolve().parents[2]
PATIENCE_SECONDS = 240
# The first stage ends when the file `go` is there. Both record each time that they run.
STAGES = """
import os, time
from pathlib import Path
from pipeline.graph.stage import Input, Stage

def slow(context):
    return make(context, lambda: not (Path(context.config.storage).parent / "go").exists())

def quick(context):
    return make(context, lambda: False)

def make(context, waits):
    folder = Path(context.config.storage).parent
    with (folder / "made.txt").open("a") as made:
        made.write(context.output.uri.split("/")[-2] + "\\n")
    while waits():
        time.sleep(0.05)
    context.output.write_json("number.json", 1)
    return {"number": 1.0}
"""
MODULES = {
    "slow_stage": "STAGE = Stage('slow', 1, lambda _: {}, slow, cpus=1)",
    "quick_stage": (
        "STAGE = Stage('quick', 1, lambda _: {}, quick, inputs=lambda *_: (Input('slow'),), cpus=1)"
    ),
}


@dataclass
class Runs:
    """Runs of two toy stages on one storage."""

    folder: Path
    started: list[subprocess.Popen] = field(default_factory=list)

    def start(self, name: str) -> subprocess.Popen:
        command = [sys.executable, "-m", "pipeline", "run", "toy.yaml", "--stage", "quick"]
        # Other tests of this process may have set what Ray reads.
        inherited = {name: one for name, one in os.environ.items() if not name.startswith("RAY_")}
        with (self.folder / name).open("w") as log:
            run = subprocess.Popen(
                command,
                cwd=self.folder,
                env={**inherited, "PYTHONPATH": str(ROOT)},
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        self.started.append(run)
        return run

    def log(self, name: str) -> str:
        return (self.folder / name).read_text()

    def made(self) -> list[str]:
        """The stages that ran, each time that they did."""
        path = self.folder / "made.txt"
        return path.read_text().split() if path.exists() else []

    def go(self) -> None:
        (self.folder / "go").touch()

    def until(self, happened: Callable[[], bool], run: subprocess.Popen) -> None:
        """Wait until something has happened, which `run` is to bring about."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not happened():
            logs = "\n".join(path.read_text() for path in self.folder.glob("*.log"))
            assert run.poll() is None, logs
            assert time.monotonic() < deadline, logs
            time.sleep(0.05)


@pytest.fixture
def runs(tmp_path):
    for module, stage in MODULES.items():
        (tmp_path / f"{module}.py").write_text(f"{STAGES}\n{stage}\n")
    config = {
        "storage": str(tmp_path / "runs"),
        "corpus": {"kind": "synthetic", "utterances": {"train": 1, "valid": 1, "test": 1}},
        "ssl": {"model": "some/model", "revision": "0" * 40},
        "extra_stages": list(MODULES),
        "tracking": {"enabled": False},
    }
    (tmp_path / "toy.yaml").write_text(yaml.safe_dump(config))
    made = Runs(tmp_path)
    yield made
    for run in made.started:
        run.kill()
        run.wait()


def ports_of(run: subprocess.Popen) -> list[tuple[str, int]]:
    """All that a run and the Ray that it has started listen at."""
    processes = [psutil.Process(run.pid), *psutil.Process(run.pid).children(recursive=True)]
    return [port for process in processes for port in listening(process)]


def test_each_output_is_made_once_and_the_second_says_for_whom_it_waits(runs):
    first = runs.start("first.log")
    runs.until(lambda: runs.made() == ["slow"], first)
    ports = ports_of(first)
    assert len(ports) > 5
    assert [port for port in ports if not is_loopback(port)] == []

    second = runs.start("second.log")
    runs.until(lambda: "waits for it" in runs.log("second.log"), second)
    runs.go()
    assert first.wait(PATIENCE_SECONDS) == 0, runs.log("first.log")
    assert second.wait(PATIENCE_SECONDS) == 0, runs.log("second.log")
    assert runs.made() == ["slow", "quick"]
    who = f"process {first.pid} on this machine (python -m pipeline run toy.yaml --stage quick)"
    [waits] = re.findall(r".*waits for it.*", runs.log("second.log"))
    assert waits.endswith(f"slow[toy] is being made by {who}: waits for it")
    assert f"slow[toy] was made by {who}" in runs.log("second.log")
    assert list(runs.folder.glob("runs/leases/*")) == []


@pytest.mark.soak  # a minute; without Ray, the tests of leases and of the scheduler show the same
def test_a_run_that_waits_takes_over_from_one_that_is_killed(runs):
    first = runs.start("first.log")
    runs.until(lambda: runs.made() == ["slow"], first)
    second = runs.start("second.log")
    runs.until(lambda: "waits for it" in runs.log("second.log"), second)
    os.kill(first.pid, signal.SIGKILL)
    first.wait()
    runs.until(lambda: runs.made() == ["slow", "slow"], second)
    runs.go()
    assert second.wait(PATIENCE_SECONDS) == 0, runs.log("second.log")
    assert runs.made() == ["slow", "slow", "quick"]
    assert re.search(
        rf"slow\[toy\] is taken over from process {first.pid} .*, which has ended",
        runs.log("second.log"),
    )
    assert len(list(runs.folder.glob("runs/*/*/manifest.json"))) == 2
    assert list(runs.folder.glob("runs/leases/*")) == []
