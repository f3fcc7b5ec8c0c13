"""kill -9, again and again at random in one extraction: the shards are those of one left alone."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import ray
from support import save_tiny_ssl, tone_utterances

from pipeline.config import Cluster, Features, Ssl
from pipeline.corpus.shards import plan_shards
from pipeline.features.extraction import ShardWriter
from pipeline.runtime.shard_pool import run_shards
from pipeline.storage.artifacts import Artifact

# Soak: test_cluster.py kills a node in an extraction and test_tokenize_job.py a driver, in less time.
pytestmark = [
    pytest.mark.slow,
    pytest.mark.soak,
    pytest.mark.timeout(600),
    pytest.mark.usefixtures("local_ray"),
]

ROOT = Path(__file__).resolve().parents[2]
PATIENCE_SECONDS = 180
WORKERS = 2
KILLS = 20


class Traced(ShardWriter):
    """A slow shard writer that records its process ID, so that it can be killed."""

    def __init__(self, pids, **arguments):
        super().__init__(**arguments)
        self._pid_file = Path(pids) / str(os.getpid())

    def __call__(self, name, utterances):
        # Not before the first shard: Ray Data gives up on workers that keep dying while they start.
        self._pid_file.touch()
        time.sleep(0.02)
        return super().__call__(name, utterances)


def extract(folder, worker=ShardWriter, **more):
    """The complete extraction, on the running Ray."""
    utterances = tone_utterances(folder / "audio", "train", 120)
    arguments = {
        "ssl": Ssl(model=str(folder / "ssl")),
        "features": Features(batch_seconds=4.0),
        "output": Artifact(str(folder / more.pop("output"))),
        **more,
    }
    shards = plan_shards(utterances, shard_utterances=1)
    cluster = Cluster(extraction_workers=WORKERS)
    run_shards(worker, arguments, shards, cluster)


def drive(folder):
    """The work of the driver that is killed; its workers cannot import this file."""
    ray.init(address=os.environ["TEST_RAY_ADDRESS"], log_to_driver=False)
    ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])
    extract(Path(folder), Traced, output="killed", pids=f"{folder}/pids")


def start_driver(folder):
    code = f"import test_kill_extraction as test; test.drive({str(folder)!r})"
    path = os.pathsep.join([str(ROOT), str(ROOT / "tests"), str(ROOT / "tests/integration")])
    address = ray.get_runtime_context().gcs_address
    environment = {**os.environ, "PYTHONPATH": path, "TEST_RAY_ADDRESS": address}
    return subprocess.Popen([sys.executable, "-c", code], env=environment, cwd=ROOT)


def shards(folder):
    return {path.name: path.read_bytes() for path in (folder / "shards").glob("*.parquet")}


def living(folder):
    found = []
    for path in sorted((folder / "pids").iterdir()):
        try:
            os.kill(int(path.name), 0)
            found.append(int(path.name))
        except ProcessLookupError:
            path.unlink()
    return found


def wait_for(condition):
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        assert time.monotonic() < deadline, "nothing to kill in time"
        time.sleep(0.01)


def test_kills_change_no_byte(tmp_path):
    for name in ("audio", "pids", "killed/shards"):
        (tmp_path / name).mkdir(parents=True)
    save_tiny_ssl(tmp_path / "ssl")
    extract(tmp_path, output="undisturbed")
    undisturbed = shards(tmp_path / "undisturbed")
    assert len(undisturbed) == 120

    chance = random.Random(0)  # noqa: S311 (no secret)
    driver = start_driver(tmp_path)
    for turn in range(KILLS):
        goal = len(list((tmp_path / "killed/shards").glob("*.parquet"))) + chance.randrange(4)
        wait_for(
            lambda goal=goal: (
                living(tmp_path)
                and len(list((tmp_path / "killed/shards").glob("*.parquet"))) >= goal
            )
        )
        time.sleep(chance.uniform(0, 0.03))
        assert driver.poll() is None, f"the extraction ended before kill {turn}"
        if turn == KILLS // 2:
            driver.kill()
            driver.wait()
            wait_for(lambda: not living(tmp_path))  # Ray ends a dead driver's workers
            driver = start_driver(tmp_path)
        else:
            pids = living(tmp_path)
            os.kill(chance.choice(pids), signal.SIGKILL)
    assert len(shards(tmp_path / "killed")) < 120
    assert driver.wait(PATIENCE_SECONDS) == 0

    assert shards(tmp_path / "killed") == undisturbed
    output, other = Artifact(str(tmp_path / "killed")), Artifact(str(tmp_path / "undisturbed"))
    assert output.recorded() == other.recorded()
    for name, known in output.recorded().items():
        assert output.checksum(name) == known
