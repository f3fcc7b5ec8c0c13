"""`tokenize` over a bucket on Ray workers, killed midway, writes the shards of a single process."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import ray
from faulty_s3 import local_s3
from support import run_shards_here, save_tiny_tokenizer, tone_utterances
from typer.testing import CliRunner

from pipeline.__main__ import app
from pipeline.commands import tokenize_listing
from pipeline.runtime import shard_pool
from pipeline.storage.artifacts import MANIFEST, Artifact
from pipeline.storage.s3 import ObjectStore

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(600),
    pytest.mark.usefixtures("local_ray"),
]

ROOT = Path(__file__).resolve().parents[2]
PATIENCE_SECONDS = 240
NUM_SHARDS = 17  # two folders of eight, and a file that is found to be cut only when it is decoded
# Small shards, so that the job can be killed midway.
COMMAND = """
import sys
from pipeline.commands import tokenize_listing
tokenize_listing.SHARD_UTTERANCES = 1
from pipeline.__main__ import main
sys.argv[0] = "pipeline"
main()
"""


@pytest.fixture(scope="module")
def places(tmp_path_factory):
    """A tokenizer and a folder of audio, partly invalid, both also in a bucket."""
    folder = tmp_path_factory.mktemp("place")
    save_tiny_tokenizer(folder / "trained")
    audio = folder / "audio"
    (audio / "more").mkdir(parents=True)
    tone_utterances(audio, "a", 8)
    tone_utterances(audio / "more", "b", 8)
    good = (audio / "a-000.flac").read_bytes()
    (audio / "cut.flac").write_bytes(good[: len(good) // 2])
    (audio / "empty.wav").touch()
    (audio / "text.mp3").write_text("no audio")
    with local_s3():
        for name in ("trained", "audio"):
            ObjectStore().put(f"{folder / name}/", f"bucket/{name}/", recursive=True)
        yield folder


def arguments(place, output, workers):
    return [
        "tokenize", f"{place}/trained", f"{place}/audio",
        "--output", output, "--workers", str(workers), "--cpus-per-worker", "0.5",
    ]  # fmt: skip


def start(place, output, workers):
    """A driver process that joins the running Ray."""
    address = ray.get_runtime_context().gcs_address
    return subprocess.Popen(
        [sys.executable, "-c", COMMAND, *arguments(place, output, workers), "--address", address],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def invoke(*command):
    done = CliRunner().invoke(app, command)
    assert done.exit_code == 0, (done.output, done.exception)


def kill_in_the_middle(place, output):
    deadline = time.monotonic() + PATIENCE_SECONDS
    with start(place, output.uri, workers=1) as driver:
        while not output.names("records"):
            assert driver.poll() is None, driver.stdout.read()
            assert time.monotonic() < deadline, "nothing to kill in time"
            time.sleep(0.02)
        os.kill(driver.pid, signal.SIGKILL)


def shards(output):
    return {name: output.read_table(name).to_pylist() for name in output.names("shards")}


def test_a_job_killed_in_the_middle_ends_like_one_process_left_alone(places, tmp_path, monkeypatch):
    monkeypatch.setattr(tokenize_listing, "SHARD_UTTERANCES", 1)
    undisturbed, killed = Artifact(str(tmp_path / "undisturbed")), Artifact("s3://bucket/units")
    with monkeypatch.context() as patch:
        patch.setattr(shard_pool, "run_shards", run_shards_here)
        invoke(*arguments(places, undisturbed.uri, workers=1))
    expected = shards(undisturbed)
    assert len(expected) == NUM_SHARDS

    kill_in_the_middle("s3://bucket", killed)
    assert not killed.is_complete()
    with start("s3://bucket", killed.uri, workers=2) as driver:
        said, _ = driver.communicate(timeout=PATIENCE_SECONDS)
    assert driver.returncode == 0, said
    kept = int(said.split(f" of {NUM_SHARDS} shards already")[0].split()[-1])
    assert 0 < kept < NUM_SHARDS, said

    assert shards(killed) == expected
    assert killed.read_json(MANIFEST)["frames"] == undisturbed.read_json(MANIFEST)["frames"]
    reasons = {
        Path(row["source"]).name: row["reason"]
        for row in killed.read_table("rejects.parquet").to_pylist()
    }
    assert set(reasons) == {"cut.flac", "empty.wav", "text.mp3"}
    assert undisturbed.read_table("rejects.parquet").num_rows == 3
    invoke("verify", killed.uri)
