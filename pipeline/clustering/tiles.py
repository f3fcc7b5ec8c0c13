"""Frames in tiles, so that no frames x units matrix is ever complete in memory.

Shapes: M frames with padding, N valid ones, R of them in a tile, D dimensions, K units.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.util import find_spec

import torch
from torch import Tensor

from pipeline.clustering.logits import Logits

# Elements of a tile's widest matrix. On a CPU a tile fits the last-level cache; on a GPU it is large
# enough for every multiprocessor, and small compared with the batch.
ELEMENTS = {"cpu": 1 << 21, "cuda": 1 << 23}


# A row of logits must fit the registers of one program of a GPU.
MOST_FUSED_UNITS = 8192


def is_fused(frames: Tensor, num_units: int) -> bool:
    """Whether a GPU's own kernels (`clustering.fused`, `quantizer.fused`) take these frames."""
    return frames.is_cuda and num_units <= MOST_FUSED_UNITS and find_spec("triton") is not None


def tile_rows(widest: int, device: torch.device) -> int:
    """Rows of a tile whose widest matrix has `widest` columns."""
    return max(1, ELEMENTS.get(device.type, ELEMENTS["cuda"]) // max(widest, 1))


def tiles(num_rows: int, widest: int, device: torch.device) -> Iterator[slice]:
    """Neighbouring slices that cover `num_rows`, all of `tile_rows` but the last."""
    size = tile_rows(widest, device)
    for first in range(0, num_rows, size):
        yield slice(first, min(first + size, num_rows))


@dataclass(frozen=True)
class FrameTile:
    """Some of the valid frames; its matrices are float32 and may be overwritten.

    Attributes:
        span: of its frames among the N valid ones.
        rows_R: int64, their positions among the M frames with padding.
        frames_RD: the frames, moved by the logits' origin.
        logits_RK: their logits.
        spare_RK: scratch of unknown content.
    """

    span: slice
    rows_R: Tensor
    frames_RD: Tensor
    logits_RK: Tensor
    spare_RK: Tensor


def frame_tiles(
    frames_MD: Tensor,
    valid_N: Tensor,
    logits: Logits,
    widest: int = 0,
    spans: Sequence[slice] | None = None,
) -> Iterator[FrameTile]:
    """The frames `valid_N` tile by tile, in buffers that all tiles share.

    Allocating each tile anew would take as long as drawing the noise. Other frames are never read.

    Args:
        frames_MD: of any floating dtype.
        valid_N: int64, which frames count.
        logits: of the units.
        widest: columns of the widest matrix that the caller itself makes for a tile.
        spans: the caller's own tiles of the valid frames, none above `tile_rows`.
    """
    num_units, dim = logits.weight_KD.shape
    widest = max(num_units, dim, widest)
    size = min(len(valid_N), tile_rows(widest, frames_MD.device))
    logits_RK, spare_RK = (logits.weight_KD.new_empty((size, num_units)) for _ in range(2))
    for span, frames_RD in gathered_tiles(frames_MD, valid_N, widest, spans):
        frames_RD.sub_(logits.origin_D)
        count = len(frames_RD)
        logits.write(frames_RD, logits_RK[:count])
        yield FrameTile(span, valid_N[span], frames_RD, logits_RK[:count], spare_RK[:count])


def gathered_tiles(
    frames_MD: Tensor, valid_N: Tensor, widest: int, spans: Sequence[slice] | None = None
) -> Iterator[tuple[slice, Tensor]]:
    """The frames `valid_N` tile by tile: the span among them, and frames_RD float32 to overwrite.

    `spans` are tiles of the caller's own, none above `tile_rows`.
    """
    dim = frames_MD.shape[1]
    size = min(len(valid_N), tile_rows(widest, frames_MD.device))
    gathered_RD = frames_MD.new_empty((size, dim))
    frames_RD = gathered_RD.float()
    own = tiles(len(valid_N), widest, frames_MD.device)
    for span in own if spans is None else spans:
        rows_R = valid_N[span]
        gathered = gathered_RD[: len(rows_R)]
        torch.index_select(frames_MD, 0, rows_R, out=gathered)
        yield span, frames_RD[: len(rows_R)].copy_(gathered)
