"""Extraction through Ray Data: the bytes of one process for any number of workers, complete shards kept."""

import os
import sys
import threading
from pathlib import Path

import pytest
import ray
from faulty_s3 import local_s3
from support import (
    run_shards_here,
    save_tiny_ssl,
    tiny_config,
    tone_utterances,
    write_corpus,
)

from pipeline.config import Cluster, Features, Ssl
from pipeline.corpus.shards import plan_shards
from pipeline.corpus.speed import read_split_or_copy
from pipeline.features.extraction import ShardWriter
from pipeline.progress import Progress
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


@pytest.fixture
def by_value():
    """Workers cannot import this file, so its classes are sent to them."""
    ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])
    yield
    ray.cloudpickle.unregister_pickle_by_value(sys.modules[__name__])


def extract(output, ssl_folder, shards, run, *more):
    arguments = {
        "ssl": Ssl(model=str(ssl_folder)),
        "features": Features(layers=(0, 1, 2), batch_seconds=4.0),
        "output": Artifact(str(output)),
    }
    return run(ShardWriter, arguments, shards, *more)


@pytest.mark.parametrize("workers", [0, 2])
def test_workers_write_what_one_process_does_and_only_what_is_missing(
    tmp_path, ssl_folder, shards, workers
):
    expected = extract(tmp_path / "here", ssl_folder, shards, run_shards_here)
    folder = tmp_path / "workers"
    extract(folder, ssl_folder, shards[:2], run_shards_here)
    before = [(folder / shard.name).stat().st_mtime_ns for shard in shards[:2]]
    sent = []
    cluster = Cluster(extraction_workers=workers)
    results = extract(folder, ssl_folder, shards, run_shards, cluster, Progress(sent.append))

    assert results == expected
    assert [result["name"] for result in results] == [shard.name for shard in shards]
    for shard in shards:
        assert (folder / shard.name).read_bytes() == (tmp_path / "here" / shard.name).read_bytes()
    assert [(folder / shard.name).stat().st_mtime_ns for shard in shards[:2]] == before
    assert sent[-1].done == pytest.approx(sent[-1].total)
    assert (sent[-1].unit, sent[-1].note) == ("h of audio", f"{len(shards)} shards")


def test_workers_read_a_copy_at_its_speed(tmp_path, ssl_folder):
    corpus = write_corpus(Artifact(str(tmp_path / "corpus")), tone_utterances(tmp_path, "train", 4))
    config = tiny_config(ssl_folder, training={"speeds": [0.9, 1.0, 1.1]})
    written = {}
    for split in config.speed_copies:
        shards = plan_shards(read_split_or_copy(config, corpus, split), 4)
        here, there = tmp_path / split / "here", tmp_path / split / "there"
        expected = extract(here, ssl_folder, shards, run_shards_here)
        assert extract(there, ssl_folder, shards, run_shards, Cluster()) == expected
        [shard] = shards
        written[split] = (there / shard.name).read_bytes()
        assert written[split] == (here / shard.name).read_bytes()
    assert len(set(written.values())) == 2


def test_audio_that_went_away_is_named(tmp_path, ssl_folder):
    utterances = tone_utterances(tmp_path, "train", 2)
    (tmp_path / "train-001.flac").unlink()
    with pytest.raises(ShardError, match=r"^utterance 'train-001'.*no such audio file\. Restore"):
        extract(
            tmp_path / "out",
            ssl_folder,
            plan_shards(utterances, 1),
            run_shards,
            Cluster(extraction_workers=1),
        )


class WithoutCredentials:
    """A worker that reads its model from S3, on a machine that was given no credentials."""

    def __init__(self, url, tries):
        with Path(tries).open("a") as file:
            file.write("x")
        os.environ["AWS_ENDPOINT_URL"] = url
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            os.environ.pop(name, None)
        Artifact("s3://bucket/model").read_json("model.json")


def test_a_worker_without_credentials_fails_at_once_and_says_the_cure(tmp_path, by_value):
    shards = plan_shards(tone_utterances(tmp_path, "train", 2), 1)
    cluster = Cluster(extraction_workers=1, max_failures=3)
    with local_s3() as url:
        arguments = {"url": url, "tries": str(tmp_path / "tries")}
        with pytest.raises(ShardError, match=r"no credentials for .*set AWS_ACCESS_KEY_ID"):
            run_shards(WithoutCredentials, arguments, shards, cluster)
    assert (tmp_path / "tries").read_text() == "x"


class Meeting:
    """A worker whose calls continue only when as many as it may run at once have arrived."""

    def __init__(self):
        self._barrier = threading.Barrier(SHARDS_IN_FLIGHT, timeout=240)

    def __call__(self, name, _utterances):
        self._barrier.wait()
        return {"name": name}


@pytest.mark.soak
def test_shards_are_decoded_computed_and_written_side_by_side(tmp_path, by_value):
    utterances = tone_utterances(tmp_path, "train", SHARDS_IN_FLIGHT)
    shards = plan_shards(utterances, 1)
    met = run_shards(Meeting, {}, shards, Cluster(extraction_workers=1))
    assert [one["name"] for one in met] == [shard.name for shard in shards]
