"""Frames as a Parquet column: a row for each utterance, which is a list of float16 vectors."""

import itertools
from collections.abc import Sequence

import numpy as np
import pyarrow as pa


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
