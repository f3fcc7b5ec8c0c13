"""Extraction through Ray Data: same bytes for any number of workers, whole shards kept."""

import sys
import threading

import pytest
import ray
from support import save_tiny_ssl, tone_utterances

from pipeline.config import Cluster, Features, Ssl
from pipeline.features.extraction import ShardWriter, plan_shards
from pipeline.progress import SILENT, Progress
from pipeline.runtime.shard_pool import SHARDS_IN_FLIGHT, ShardError, run_shards
from pipeline.storage.artifacts import Artifact

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("local_ray")]


@pytest.fixture(scope="module")
def ssl_folder(tmp_path_factory):
    return save_tiny_ssl(tmp_path_factory.mktemp("ssl"))


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    folder = tmp_path_factory.mktemp("audio")
    utterances = [*tone_utterances(folder, "train", 30), *tone_utterances(folder, "test", 5)]
    return plan_shards(utterances, shard_utterances=8)


def extract(output, ssl_folder, shards, workers, progress=SILENT):
    arguments = {
        "ssl": Ssl(model=str(ssl_folder)),
        "features": Features(layers=(0, 1, 2), batch_seconds=4.0),
        "output": Artifact(str(output)),
    }
    cluster = Cluster(extraction_workers=workers)
    return run_shards(ShardWriter, arguments, shards, cluster, progress)


def test_one_worker_and_two_write_the_same_bytes(tmp_path, ssl_folder, shards):
    sent = []
    one = extract(tmp_path / "one", ssl_folder, shards, 1, Progress(sent.append))
    two = extract(tmp_path / "two", ssl_folder, shards, 2)
    assert one == two
    assert [result["name"] for result in one] == [shard.name for shard in shards]
    for shard in shards:
        first, second = (tmp_path / name / shard.name for name in ("one", "two"))
        assert first.read_bytes() == second.read_bytes()
    assert sent[-1].done == pytest.approx(sent[-1].total)
    assert (sent[-1].unit, sent[-1].note) == ("h of audio", f"{len(shards)} shards")


def test_shards_that_stand_are_not_written_again(tmp_path, ssl_folder, shards):
    extract(tmp_path, ssl_folder, shards[:2], 1)
    before = [(tmp_path / shard.name).stat().st_mtime_ns for shard in shards[:2]]
    extract(tmp_path, ssl_folder, shards, 2)
    assert [(tmp_path / shard.name).stat().st_mtime_ns for shard in shards[:2]] == before
    assert all((tmp_path / shard.name).exists() for shard in shards)


def test_audio_that_went_away_is_named(tmp_path, ssl_folder):
    utterances = tone_utterances(tmp_path, "train", 2)
    (tmp_path / "train-001.flac").unlink()
    with pytest.raises(ShardError, match=r"^utterance 'train-001'.*no such audio file$"):
        extract(tmp_path / "out", ssl_folder, plan_shards(utterances, 1), 1)


class Meeting:
    """A worker whose calls go on when as many have come as may be under way in it."""

    def __init__(self):
        self._barrier = threading.Barrier(SHARDS_IN_FLIGHT, timeout=30)

    def __call__(self, name, _utterances):
        self._barrier.wait()
        return {"name": name}


def test_shards_are_decoded_computed_and_written_side_by_side(tmp_path):
    utterances = tone_utterances(tmp_path, "train", SHARDS_IN_FLIGHT)
    shards = plan_shards(utterances, 1)
    ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])
    try:
        met = run_shards(Meeting, {}, shards, Cluster(extraction_workers=1))
    finally:
        ray.cloudpickle.unregister_pickle_by_value(sys.modules[__name__])
    assert [one["name"] for one in met] == [shard.name for shard in shards]
