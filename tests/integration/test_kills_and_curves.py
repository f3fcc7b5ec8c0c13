"""Driver, stages and MLflow's server are killed at random; MLflow has all of it once in the end."""

import os
import random
import re
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest
import yaml
from mlflow_server import Server

from pipeline.tracking.tracker import connect

pytestmark = [pytest.mark.slow, pytest.mark.soak, pytest.mark.timeout(7200)]

ROOT = Path(__file__).resolve().parents[2]
ROUNDS = int(os.environ.get("KILL_ROUNDS", "5"))
KILLS = 4  # in each round
PATIENCE_SECONDS = 300.0
STEPS = 120

STAGES = {
    "train_toy": '''
import time
from pipeline.graph.stage import Stage

STEPS = 120


def run(context):
    """A training: it logs each step, keeps a checkpoint now and then, and goes on from that."""
    saved = "checkpoints/step.json"
    first = context.output.read_json(saved) if context.output.exists(saved) else 0
    for step in range(first, STEPS):
        time.sleep(0.1)
        context.log.metrics({"loss": 1 / (1 + step), "rate": step / STEPS}, step)
        context.progress.update(step + 1, STEPS, "steps")
        if step % 10 == 9:
            context.log.flush()
            context.output.write_json(saved, step + 1)
    with context.output.write("model.txt") as file:
        file.write(b"trained")
    context.log.file("model.txt")
    return {"steps": float(STEPS), "loss": 0.5}


STAGE = Stage("train_toy", 1, lambda _: {}, run, cpus=1, temporary=lambda _: ("checkpoints",))
''',
    "score_toy": '''
import time
from pipeline.graph.stage import Input, Stage


def run(context):
    """An evaluation: it begins anew."""
    for done in range(30):
        time.sleep(0.1)
        context.progress.update(done, 30, "utterances")
    return {"test.score": context.inputs["train_toy"].metrics()["loss"] / 2}


STAGE = Stage("score_toy", 1, lambda _: {}, run, inputs=lambda *_: (Input("train_toy"),), cpus=1)
''',
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("kills")
    for name, text in STAGES.items():
        (folder / f"{name}.py").write_text(text)
    config = {
        "corpus": {"kind": "synthetic"},
        "ssl": {"model": "some/model", "revision": "0" * 40},
        "extra_stages": list(STAGES),
        "cluster": {"max_failures": 20},
    }
    (folder / "toy.yaml").write_text(yaml.safe_dump(config))
    return folder


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    server = Server(tmp_path_factory.mktemp("mlflow") / "server")
    server.start()
    server.wait_until_it_answers()
    yield server
    server.end()


class Run:
    """A run on a storage of its own, in an experiment of its own, and what kills it."""

    def __init__(self, folder, server, name):
        self.folder, self.server, self.name = folder, server, name
        self.storage = folder / "runs" / name
        self.log = folder / f"{name}.log"
        self.driver = None
        self.kills = []

    def command(self, verb, *more):
        settings = ["--set", f"tracking.experiment={self.name}", "--storage", str(self.storage)]
        return [sys.executable, "-m", "pipeline", verb, "toy.yaml", *settings, *more]

    def environment(self):
        return {
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "MLFLOW_TRACKING_URI": self.server.address,
        }

    def start(self):
        with self.log.open("a") as log:
            self.driver = subprocess.Popen(
                self.command("run", "--stage", "score_toy"),
                cwd=self.folder,
                env=self.environment(),
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def kill(self, what):
        """Kill -9 one of them, if it is there."""
        self.kills.append(what)
        if what == "driver":
            self.driver.kill()
            self.driver.wait()
            self.start()
        elif what == "server":
            self.server.end(signal.SIGKILL)
            self.server.start()
        else:
            for pid in self.stage_processes():
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)

    def stage_processes(self):
        """Of the stages that have begun, the newest process each."""
        for log in self.storage.glob("*_toy/*/log"):
            if not (log.parent / "manifest.json").exists():
                text = "".join(part.read_text() for part in sorted(log.glob("*.jsonl")))
                found = re.findall(r"process (\d+) on", text)
                yield from map(int, found[-1:])

    def wait_for_steps(self):
        """Until a stage works, so that there is something to kill."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not list(self.storage.glob("*_toy/*/log/*.jsonl")) and self.driver.poll() is None:
            assert time.monotonic() < deadline, self.log.read_text()
            time.sleep(0.1)

    def finish(self):
        """Run on to the end, with a server that answers."""
        self.server.wait_until_it_answers()
        for _ in range(3):
            code = self.driver.wait(PATIENCE_SECONDS)
            if code == 0 and not list(self.storage.glob("tracking/unpublished/*")):
                return
            self.start()
        raise AssertionError(self.log.read_text())

    def track(self, uri):
        done = subprocess.run(
            self.command("track", "--uri", uri),
            cwd=self.folder,
            env=self.environment(),
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr


def published(uri, experiment):
    """What MLflow has of an experiment: of each run its status, parent, scores, curves and files."""
    client = connect(uri)
    runs = client.search_runs([client.get_experiment_by_name(experiment).experiment_id])
    names = {run.info.run_id: run.info.run_name for run in runs}
    found = {
        run.info.run_name: {
            "status": run.info.status,
            "parent": names.get(run.data.tags.get("mlflow.parentRunId")),
            "params": run.data.params,
            "scores": run.data.metrics,
            "curves": {
                key: sorted(
                    (metric.step, metric.value)
                    for metric in client.get_metric_history(run.info.run_id, key)
                )
                for key in run.data.metrics
            },
            "files": [file.path for file in client.list_artifacts(run.info.run_id)],
        }
        for run in runs
    }
    assert len(found) == len(runs)
    return found


@pytest.fixture(scope="module")
def undisturbed(folder, server):
    run = Run(folder, server, "undisturbed")
    run.start()
    run.finish()
    return published(server.address, run.name)


def test_an_undisturbed_run_has_every_step_and_its_scores(undisturbed):
    assert undisturbed.keys() == {"toy", "train_toy", "score_toy"}
    assert {run["status"] for run in undisturbed.values()} == {"FINISHED"}
    trained = undisturbed["train_toy"]
    steps = [(step, 1 / (1 + step)) for step in range(STEPS)]
    assert trained["curves"]["loss"] == sorted([*steps, (STEPS - 1, 0.5)])
    assert trained["files"] == ["model.txt"]
    assert undisturbed["score_toy"]["scores"] == {"test.score": 0.25}


@pytest.mark.parametrize("seed", range(ROUNDS))
def test_after_kills_mlflow_has_the_same_and_so_has_a_fresh_one(folder, server, undisturbed, seed):
    random_kills = random.Random(seed)  # noqa: S311 (no secret)
    run = Run(folder, server, f"killed-{seed}")
    run.start()
    for _ in range(KILLS):
        run.wait_for_steps()
        time.sleep(random_kills.uniform(0.0, 6.0))
        run.kill(random_kills.choice(["driver", "stage", "server"]))
    run.finish()
    print(f"seed {seed}: killed {', '.join(run.kills)}")
    assert published(server.address, run.name) == undisturbed, run.log.read_text()
    fresh = f"sqlite:///{folder}/{run.name}.db"
    run.track(fresh)
    assert published(fresh, run.name) == undisturbed
