"""Frames block by block: all of them, in order, and never a whole shard at once."""

import hashlib
import io
from contextlib import contextmanager

import numpy as np
import pyarrow as pa
import pytest

from pipeline.features import stored_frames
from pipeline.features.stored_frames import StoredFrames, frames_column
from pipeline.storage import table_schemas
from pipeline.storage.artifacts import Artifact

DIM = 5


def rows_of(lengths, dim=DIM, seed=0):
    chance = np.random.default_rng(seed)
    return [chance.normal(size=(length, dim)).astype(np.float16) for length in lengths]


def write_shard(output, name, rows, **options):
    """Layer 2 holds `rows`, layer 0 zeros."""
    table = table_schemas.features((0, 2)).empty_table()
    if rows:
        columns = {
            "utt_id": [f"{name}-{number}" for number in range(len(rows))],
            "split": ["train"] * len(rows),
            "num_frames": [len(row) for row in rows],
            "layer_00": frames_column([np.zeros_like(row) for row in rows]),
            "layer_02": frames_column(rows),
        }
        table = pa.table(columns, schema=table.schema)
    output.write_table(f"shards/{name}.parquet", table, **options)


@pytest.fixture
def output(tmp_path):
    return Artifact(str(tmp_path / "features"))


@pytest.mark.parametrize("block_frames", [1, 40, 10_000])
@pytest.mark.parametrize("rows_at_a_time", [1, 3, 16])
@pytest.mark.parametrize("row_group_size", [1, 4, None])
def test_blocks_hold_all_frames_in_order(
    monkeypatch, output, block_frames, rows_at_a_time, row_group_size
):
    monkeypatch.setattr(stored_frames, "BLOCK_FRAMES", block_frames)
    monkeypatch.setattr(stored_frames, "ROWS", rows_at_a_time)
    rows = rows_of([7, 1, 30, 12, 12, 3, 50, 9, 2, 21])
    write_shard(output, "train-00000", rows, row_group_size=row_group_size)
    frames = StoredFrames.of_split(output, "train", 2)
    (shard,) = frames.shards
    blocks = list(frames.read(shard))
    assert all(block.dtype == np.float16 for block in blocks)
    np.testing.assert_array_equal(np.concatenate(blocks), np.concatenate(rows))
    assert frames.num_frames(shard) == sum(map(len, rows))
    assert all(len(block) >= block_frames for block in blocks[:-1])
    if rows_at_a_time == 1:
        # No block goes on behind the utterance that fills it.
        lengths = [len(row) for row in rows]
        fullest = sum(lengths) if block_frames > sum(lengths) else block_frames - 1 + max(lengths)
        assert max(map(len, blocks)) <= fullest


def test_the_encoder_is_that_of_the_records_if_they_say(output):
    write_shard(output, "train-00000", rows_of([3]))
    frames = StoredFrames.of_split(output, "train", 2)
    assert frames.encoder() == ""
    record = {"bytes": 1, "sha256": "00", "ssl": "model@main pad=none"}
    output.write_record(*frames.shards, record)
    assert frames.encoder() == "model@main pad=none pool=1"
    output.write_record(*frames.shards, {**record, "pool": 2})
    assert frames.encoder() == "model@main pad=none pool=2"


@pytest.mark.parametrize("lengths", [[], [0], [0, 0, 0]])
def test_a_shard_without_frames_has_no_block(output, lengths):
    write_shard(output, "train-00000", rows_of(lengths))
    frames = StoredFrames.of_split(output, "train", 2)
    assert list(frames.read(frames.shards[0])) == []
    assert frames.num_frames(frames.shards[0]) == 0


@pytest.mark.parametrize("rows_at_a_time", [1, 2, 16])
def test_an_utterance_without_frames_adds_none(monkeypatch, output, rows_at_a_time):
    monkeypatch.setattr(stored_frames, "ROWS", rows_at_a_time)
    rows = rows_of([4, 0, 0, 3, 0])
    write_shard(output, "train-00000", rows)
    frames = StoredFrames.of_split(output, "train", 2)
    np.testing.assert_array_equal(
        np.concatenate(list(frames.read(frames.shards[0]))), np.concatenate(rows)
    )


class _Recorded(io.FileIO):
    """A file that knows how much it was asked for at once."""

    largest = 0

    def read(self, size=-1):
        found = super().read(size)
        self.largest = max(self.largest, len(found))
        return found


def test_a_shard_of_one_row_group_is_never_held_whole(monkeypatch, output):
    """60 MB of features in one row group, of random values that do not compress.

    What is fetched is Python's memory, what is decoded is Arrow's.
    """
    lengths, dim = [500] * 240, 256
    write_shard(output, "train-00000", rows_of(lengths, dim))
    size = sum(lengths) * dim * 2
    frames = StoredFrames.of_split(output, "train", 2)
    files = []

    @contextmanager
    def recorded(artifact, name):
        with _Recorded(artifact.path(name)) as file:
            files.append(file)
            yield file

    monkeypatch.setattr(Artifact, "read", recorded)
    # A pool from which nothing else in this process takes memory.
    pool, before = pa.system_memory_pool(), pa.default_memory_pool()
    pa.set_memory_pool(pool)
    try:
        num_blocks = sum(1 for _ in frames.read(frames.shards[0]))
        peak = pool.max_memory()
        output.read_table(frames.shards[0], columns=["layer_02"])
        peak_of_all = pool.max_memory()
    finally:
        pa.set_memory_pool(before)
    assert num_blocks > 3
    assert peak < 0.5 * size < size < peak_of_all
    assert files[0].largest < 0.15 * size < files[1].largest


def test_the_shards_are_those_of_the_split(output):
    for name in ("train-00001", "train-00000", "train-other-00000", "dev-00000"):
        write_shard(output, name, rows_of([3]))
    frames = StoredFrames.of_split(output, "train", 2)
    assert frames.shards == ("shards/train-00000.parquet", "shards/train-00001.parquet")


@pytest.mark.parametrize("split", ["tes", "trai", "train-00000"])
def test_a_split_without_shards_is_named(output, split):
    write_shard(output, "train-00000", rows_of([3]))
    with pytest.raises(ValueError, match=rf"features has no shard of split '{split}': run extract"):
        StoredFrames.of_split(output, split, 2)


def test_checksums_are_those_of_the_manifest(output):
    for seed, name in enumerate(["train-00000", "train-00001", "dev-00000"]):
        write_shard(output, name, rows_of([3], seed=seed))
    output.finish({})
    frames = StoredFrames.of_split(output, "train", 2)
    expected = {}
    for shard in frames.shards:
        with output.read(shard) as file:
            expected[shard] = hashlib.sha256(file.read()).hexdigest()
    assert frames.checksums() == expected
    assert len(set(expected.values())) == 2
