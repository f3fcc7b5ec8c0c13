"""kill -9 of the driver in extraction, in codebook fitting and in training; then run on.

The run that was killed three times must end with the tokens and losses of one left alone.
"""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import yaml
from support import SMALL_ASR, save_tiny_ssl

from pipeline.log.read_log import read_history
from pipeline.storage.artifacts import Artifact

# Soak: minutes; make test kills the driver in extraction, and nodes in extraction and in training.
pytestmark = [pytest.mark.slow, pytest.mark.soak, pytest.mark.timeout(900)]

ROOT = Path(__file__).resolve().parents[2]
PATIENCE_SECONDS = 240


@pytest.fixture(scope="module")
def config_file(tmp_path_factory):
    folder = tmp_path_factory.mktemp("kill")
    ssl = save_tiny_ssl(folder / "ssl")
    config = {
        "corpus": {
            "kind": "synthetic",
            "utterances": {"train": 48, "valid": 6, "test": 6},
            "min_words": 2,
            "max_words": 3,
        },
        "ssl": {"model": str(ssl)},
        "features": {"shard_utterances": 4},
        # A sample, so that Lloyd's passes over all frames follow: there is time to kill them.
        "codebook": {"num_units": 16, "sample_frames": 500, "max_passes": 4, "tolerance": 1e-9},
        "asr": SMALL_ASR,
        "training": {
            "phases": [{"epochs": 3}, {"epochs": 3, "ssl": "finetuned"}],
            "batch_seconds": 8.0,
            "checkpoint_steps": 4,
            "log_steps": 1,
        },
        "tracking": {"enabled": False},
    }
    path = folder / "tiny.yaml"
    path.write_text(yaml.safe_dump(config))
    return path


def command(config_file, storage):
    return [
        sys.executable, "-m", "pipeline", "run", str(config_file),
        "--storage", str(storage), "--stage", "tokenize_corpus",
    ]  # fmt: skip


def run_to_the_end(config_file, storage):
    done = subprocess.run(
        command(config_file, storage), cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def kill_when(config_file, storage, happened):
    """Start a run, and kill -9 its driver as soon as `happened(what it printed)`."""
    log = storage.with_suffix(".log")
    with (
        log.open("w") as output,
        subprocess.Popen(
            command(config_file, storage), cwd=ROOT, stdout=output, stderr=subprocess.STDOUT
        ) as driver,
    ):
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not happened(log.read_text()):
            assert driver.poll() is None, f"the run ended early:\n{log.read_text()}"
            assert time.monotonic() < deadline, f"nothing to kill in time:\n{log.read_text()}"
            time.sleep(0.02)
        os.kill(driver.pid, signal.SIGKILL)
        driver.wait()


def file_below(storage, pattern):
    return lambda _printed: bool(list(storage.glob(pattern)))


def tokens(storage):
    shards = sorted(Path(storage).glob("tokenize_corpus/*/tokens/*.parquet"))
    assert shards
    return [pq.read_table(shard) for shard in shards]


def losses(storage):
    [output] = Path(storage).glob("train_joint/*")
    rows = read_history(Artifact(str(output)))
    return {row["step"]: row["train.loss"] for row in rows if "train.loss" in row}


def is_complete(storage, stage):
    return bool(list(Path(storage).glob(f"{stage}/*/manifest.json")))


def test_a_run_killed_three_times_ends_like_one_left_alone(config_file, tmp_path):
    undisturbed, killed = tmp_path / "undisturbed", tmp_path / "killed"
    run_to_the_end(config_file, undisturbed)

    kill_when(config_file, killed, file_below(killed, "extract_features/*/shards/*.parquet"))
    assert is_complete(killed, "prepare_corpus")
    assert not is_complete(killed, "extract_features")
    kill_when(config_file, killed, lambda printed: "fit_codebook[tiny] starts" in printed)
    assert is_complete(killed, "extract_features")
    assert not is_complete(killed, "fit_codebook")
    kill_when(
        config_file, killed, file_below(killed, "train_joint/*/checkpoints/step-*/values.json")
    )
    assert is_complete(killed, "fit_codebook")
    assert not is_complete(killed, "train_joint")
    run_to_the_end(config_file, killed)

    assert tokens(killed) == tokens(undisturbed)
    expected = losses(undisturbed)
    assert len(expected) > 8
    assert losses(killed) == pytest.approx(expected, abs=1e-6)

    started = time.monotonic()
    assert "0 of" in run_to_the_end(config_file, killed)
    assert time.monotonic() - started < 20
