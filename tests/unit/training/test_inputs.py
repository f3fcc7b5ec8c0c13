import numpy as np
import pyarrow as pa
import pytest
import torch

from pipeline.storage.artifacts import Artifact
from pipeline.training.inputs import Cache, Inputs, Location, feature_index


def test_cache_forgets_the_least_recently_used():
    cache = Cache(max_bytes=3 * 8)
    for key in "abc":
        cache.put(key, np.zeros(1))
    assert cache.get("a") is not None
    cache.put("d", np.zeros(1))
    assert cache.get("b") is None
    assert all(cache.get(key) is not None for key in "acd")


def test_cache_keeps_one_array_that_is_too_large_for_it():
    cache = Cache(max_bytes=1)
    cache.put("a", np.zeros(10))
    assert cache.get("a") is not None


def test_a_batch_moves_as_a_whole():
    inputs = Inputs(torch.tensor([3]), [[1]], waveforms_BS=torch.zeros(1, 3), positions=(4,))
    moved = inputs.to(torch.device("meta"))
    assert moved.waveforms_BS.device.type == "meta"
    assert moved.lengths_B.device.type == "cpu"
    assert moved.hidden_LBTD is None
    assert (moved.targets, moved.positions) == ([[1]], (4,))


@pytest.fixture
def outputs(tmp_path):
    train, other = Artifact(str(tmp_path / "train")), Artifact(str(tmp_path / "other"))
    shards = ((train, "train-00000", "abc"), (train, "train-00001", "d"), (other, "v-00000", "e"))
    for output, name, ids in shards:
        rows = [{"utt_id": utt_id, "num_frames": ord(utt_id) - 90} for utt_id in ids]
        output.write_table(f"shards/{name}.parquet", pa.Table.from_pylist(rows), row_group_size=2)
    return train, other


def test_every_utterance_has_output_shard_row_group_and_frames(outputs):
    train, other = outputs
    assert feature_index(outputs) == {
        "a": Location(train, "shards/train-00000.parquet", 0, 7),
        "b": Location(train, "shards/train-00000.parquet", 0, 8),
        "c": Location(train, "shards/train-00000.parquet", 1, 9),
        "d": Location(train, "shards/train-00001.parquet", 0, 10),
        "e": Location(other, "shards/v-00000.parquet", 0, 11),
    }
