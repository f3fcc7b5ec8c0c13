"""Stored frames: a Parquet column whose rows are utterances, each a list of float16 vectors."""

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.corpus.shards import FEATURES
from pipeline.storage.artifacts import MANIFEST, Artifact
from pipeline.storage.table_schemas import FRAME_INDEX, layer_column, num_stored_frames

# A block holds at least this many frames, except the last; an utterance is never cut.
BLOCK_FRAMES = 16_384
# Rows decoded at a time, and bytes fetched at a time: a shard may be one row group of gigabytes.
ROWS = 16
BUFFER_BYTES = 4 << 20


@dataclass(frozen=True)
class StoredFrames:
    """One layer of one split's feature shards, read block by block, whatever their size."""

    features: Artifact
    layer: int
    shards: tuple[str, ...]

    @classmethod
    def of_split(cls, features: Artifact, split: str, layer: int) -> "StoredFrames":
        """The shards of `split` that `features` holds.

        Raises:
            ValueError: there are none.
        """
        names = features.names(FEATURES)
        shards = tuple(n for n in names if n.rpartition("-")[0] == f"{FEATURES}/{split}")
        if not shards:
            raise ValueError(
                f"{features.uri} has no shard of split '{split}': run extract_features for it"
            )
        return cls(features, layer, shards)

    def num_frames(self, shard: str) -> int:
        # A missing column is skipped: then all frames are stored.
        with self.features.read(shard) as file:
            return num_stored_frames(pq.ParquetFile(file).read(["num_frames", FRAME_INDEX]))

    def checksums(self) -> dict[str, str]:
        """The SHA-256 of each shard, as the features' manifest has it."""
        files = self.features.read_json(MANIFEST)["files"]
        return {shard: files[shard]["sha256"] for shard in self.shards}

    def encoder(self) -> str:
        """The SSL model that the frames are of, and how many of its frames one is; "" if unknown."""
        record = self.features.read_record(self.shards[0]) or {}
        return f"{record['ssl']} pool={record.get('pool', 1)}" if "ssl" in record else ""

    def read(self, shard: str) -> Iterator[np.ndarray]:
        """The frames (N x D, float16) in blocks; an empty shard has none."""
        block: list[np.ndarray] = []
        with self.features.read(shard) as file:
            parquet = pq.ParquetFile(file, buffer_size=BUFFER_BYTES, pre_buffer=False)
            column = layer_column(self.layer)
            for batch in parquet.iter_batches(batch_size=ROWS, columns=[column]):
                block += [row for row in frames_of(batch.column(0)) if len(row)]
                if sum(map(len, block)) >= BLOCK_FRAMES:
                    yield np.concatenate(block)
                    block = []
        if block:
            yield np.concatenate(block)


def frames_column(frames: Sequence[np.ndarray]) -> pa.Array:
    """T x D float16 arrays as one list<list<halffloat>> column, without a Python object for each value."""
    values_ND = np.concatenate(frames)
    num_frames, dim = values_ND.shape
    inner = np.arange(0, (num_frames + 1) * dim, dim, dtype=np.int32)
    vectors = pa.ListArray.from_arrays(inner, pa.array(values_ND.reshape(-1)))
    ends = np.cumsum([0, *map(len, frames)], dtype=np.int32)
    return pa.ListArray.from_arrays(ends, vectors)


def frames_of(column: pa.ChunkedArray | pa.Array) -> list[np.ndarray]:
    """The frames (T x D, float16) of each row of a features column, without copying values."""
    rows: list[np.ndarray] = []
    for chunk in column.chunks if isinstance(column, pa.ChunkedArray) else [column]:
        frame_offsets = np.asarray(chunk.offsets)
        frames = chunk.flatten()
        values = frames.flatten().to_numpy(zero_copy_only=False)
        dim = len(values) // max(1, len(frames))
        values = values.reshape(len(frames), dim)
        starts = frame_offsets - frame_offsets[0]
        rows.extend(values[a:b] for a, b in itertools.pairwise(starts))
    return rows
