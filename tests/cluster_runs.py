"""A small run as a job on a real cluster of two nodes, with S3 and MLflow over HTTP beside it."""

import os
import re
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pytest
import yaml
from faulty_s3 import FaultyS3, local_s3, use
from ray_nodes import RayNodes
from support import SMALL_ASR, save_tiny_ssl, write_tone_manifest

from pipeline.log.read_log import read_history
from pipeline.storage.artifacts import Artifact
from pipeline.storage.s3 import ObjectStore

ROOT = Path(__file__).resolve().parents[1]
PATIENCE_SECONDS = 600
STAGES = ("evaluate_asr", "phone_purity")
# Only the nodes and this process know these values; they must not appear anywhere.
SECRETS = {
    "AWS_ACCESS_KEY_ID": "KEY-OF-THE-NODES-1",
    "AWS_SECRET_ACCESS_KEY": "secret-of-the-nodes-1",
    "MLFLOW_TRACKING_USERNAME": "user-of-the-nodes-1",
    "MLFLOW_TRACKING_PASSWORD": "password-of-the-nodes-1",
}
# The head notices a lost node after five seconds instead of fifteen.
EARLY_HEALTH_CHECKS = {
    "RAY_health_check_period_ms": "1000",
    "RAY_health_check_initial_delay_ms": "1000",
}


class Gate:
    """Holds chosen requests to the store, so that a test can act before they continue.

    Once armed, it lets the first `passed` matching PUT requests through and holds the next ones
    until it is opened.
    """

    def __init__(self) -> None:
        self.reached, self._open = threading.Event(), threading.Event()
        self._pattern: re.Pattern[str] | None = None
        self._passed = 0
        self._lock = threading.Lock()

    def arm(self, pattern: str, passed: int) -> None:
        with self._lock:
            self.reached.clear()
            self._open.clear()
            self._pattern, self._passed = re.compile(pattern), passed

    def open(self) -> None:
        with self._lock:
            self._pattern = None
            self._open.set()

    def __call__(self, method: str, path: str) -> None:
        """A plan of `FaultyS3` that only delays."""
        with self._lock:
            if method != "PUT" or self._pattern is None or not self._pattern.search(path):
                return
            self._passed -= 1
            if self._passed >= 0:
                return
        self.reached.set()
        self._open.wait(PATIENCE_SECONDS)


@dataclass
class Surroundings:
    """A cluster and what a run on it needs: a store behind a gate, a tracker, a project folder."""

    cluster: RayNodes
    gate: Gate
    tracker: str
    folder: Path

    def start(
        self, storage: str, *options: str, stages: tuple[str, ...] = STAGES, log: Path | None = None
    ) -> subprocess.Popen[str]:
        """`submit` of the small run, which follows the job to its end; prints to a pipe or `log`."""
        command = [sys.executable, "-m", "pipeline", "submit", "tiny.yaml", "--storage", storage]
        command += [*(f"--stage={stage}" for stage in stages), *options]
        environment = {**os.environ, **self.cluster.environment, "PYTHONPATH": str(ROOT)}
        with nullcontext(subprocess.PIPE) if log is None else log.open("w") as printed:
            return subprocess.Popen(
                command,
                cwd=self.folder,
                env=environment,
                stdout=printed,
                stderr=subprocess.STDOUT,
                text=True,
            )

    def kill_a_node(self) -> None:
        """Kill the newest node, never the head."""
        self.cluster.kill_node(self.cluster.nodes[-1])

    def run(self, storage: str, *options: str) -> str:
        """Run to the end; returns the output."""
        return finish(self.start(storage, *options))


def finish(job: subprocess.Popen[str]) -> str:
    """Wait for a job that must succeed; returns its output."""
    try:
        printed, _ = job.communicate(timeout=PATIENCE_SECONDS)
    finally:
        job.kill()
    assert job.returncode == 0, printed
    return printed


@contextmanager
def surroundings(folder: Path, tracker: str) -> Iterator[Surroundings]:
    """Two nodes of one CPU and an S3 server, which end with the block; `tracker` is MLflow's."""
    with (
        local_s3() as server,
        pytest.MonkeyPatch.context() as patch,
        FaultyS3(server, Gate()) as proxy,
        tempfile.TemporaryDirectory(prefix="ray-", dir="/tmp") as state,
    ):
        use(patch, proxy.url)
        for name, value in {
            **SECRETS,
            **EARLY_HEALTH_CHECKS,
            "MLFLOW_TRACKING_URI": tracker,
        }.items():
            patch.setenv(name, value)
        for name in ("RAY_ADDRESS", "RAY_API_SERVER_ADDRESS", "RAY_JOB_CONFIG_JSON_ENV_VAR"):
            patch.delenv(name, raising=False)
        # What is trained on makes several shards; each other split is one, so it has one worker.
        write_corpus(folder / "corpus", {"train": 16, "valid": 2, "test": 2})
        write_project(folder / "project")
        cluster = RayNodes(Path(state))
        try:
            cluster.add_node()
            yield Surroundings(cluster, proxy.plan, tracker, folder / "project")
        finally:
            cluster.close()


def write_corpus(folder: Path, numbers: dict[str, int]) -> None:
    """Tones and their manifest at `s3://bucket/corpus`."""
    write_tone_manifest(folder, numbers)
    ObjectStore().put(f"{folder}/", "bucket/corpus/", recursive=True)


def write_project(folder: Path) -> None:
    """The folder that is sent: a config and an SSL model. Every stage with workers may have two."""
    config = {
        "variant": "tiny",
        "corpus": {"kind": "manifest", "manifest": "s3://bucket/corpus/manifest.jsonl"},
        "ssl": {"model": str(save_tiny_ssl(folder / "ssl").relative_to(folder))},
        "features": {"shard_utterances": 2},
        "codebook": {"num_units": 8},
        "asr": SMALL_ASR,
        "training": {
            "phases": [{"epochs": 1}, {"epochs": 1, "ssl": "finetuned"}],
            "batch_seconds": 2.5,
            "checkpoint_steps": 2,
            "log_steps": 1,
        },
        "tracking": {"experiment": "cluster"},
        "cluster": {
            "extraction_workers": 2,
            "codebook_workers": 2,
            "training_workers": 2,
            "sharding": "fsdp",
            "max_failures": 30,
        },
    }
    (folder / "tiny.yaml").write_text(yaml.safe_dump(config))


def outputs(storage: str, stage: str) -> list[Artifact]:
    """The outputs of a stage, one for each split if it has any."""
    digests = {name.partition("/")[0] for name in Artifact(f"{storage}/{stage}").names()}
    return [Artifact(f"{storage}/{stage}/{digest}") for digest in sorted(digests)]


def output(storage: str, stage: str) -> Artifact:
    """The one output of a stage."""
    [found] = outputs(storage, stage)
    return found


def tokens(storage: str) -> dict[str, pa.Table]:
    """The tokens of all splits, by shard."""
    tables = {
        name: found.read_table(name)
        for found in outputs(storage, "tokenize_corpus")
        for name in found.names("tokens")
    }
    assert tables
    return tables


def losses(storage: str) -> dict[int, float]:
    """The training loss of each logged step."""
    rows = read_history(output(storage, "train_joint"))
    return {int(row["step"]): row["train.loss"] for row in rows if "train.loss" in row}


def scores(storage: str) -> dict[str, float]:
    """The scores of the evaluation stages."""
    found = {}
    for stage in ("evaluate_asr", "phone_purity"):
        found |= output(storage, stage).metrics()
    return found
