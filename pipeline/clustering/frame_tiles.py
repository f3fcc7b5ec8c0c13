"""The valid frames of a batch with their logits, a tile at a time.

Shapes: M frames with padding, N valid ones, R of them in a tile, D dimensions, K units.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from pipeline.clustering.logits import Logits
from pipeline.clustering.tiles import tile_rows, tiles


@dataclass(frozen=True)
class FrameTile:
    """Some of the valid frames; its matrices are float32 and may be overwritten.

    Attributes:
        span: of its frames among the N valid ones.
        rows_R: int64, their positions among the M frames with padding.
        frames_RD: the frames, moved by the logits' origin.
        logits_RK: their logits.
        spare_RK: scratch of unknown content.
        distances_RK: Euclidean distances, where the logits are made of those.
    """

    span: slice
    rows_R: Tensor
    frames_RD: Tensor
    logits_RK: Tensor
    spare_RK: Tensor
    distances_RK: Tensor | None


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
    distances_RK = None if logits.sharpness is None else torch.empty_like(logits_RK)
    for span, frames_RD in gathered_tiles(frames_MD, valid_N, widest, spans):
        frames_RD.sub_(logits.origin_D)
        count = len(frames_RD)
        own_RK = None if distances_RK is None else distances_RK[:count]
        logits.write(frames_RD, logits_RK[:count], own_RK)
        yield FrameTile(span, valid_N[span], frames_RD, logits_RK[:count], spare_RK[:count], own_RK)


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
