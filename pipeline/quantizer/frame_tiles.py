"""The valid frames of a batch and their logits, a tile at a time.

Shapes: M frames with padding, N valid ones, R of them in a tile, D dimensions, K units.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from pipeline.clustering.assignment import Logits
from pipeline.clustering.tiles import tile_rows, tiles
from pipeline.quantizer.noise import Noise, Stretch


@dataclass(frozen=True)
class FrameTile:
    """Some of the valid frames; its matrices are float32 and may be overwritten.

    Attributes:
        place: of its frames among the N valid ones.
        rows_R: int64, their places among the M frames with padding.
        frames_RD: the frames, moved by the logits' origin.
        logits_RK: their logits.
        spare_RK: scratch of unknown content.
        stretches: of the noise that the caller asked for, which together are the tile.
    """

    place: slice
    rows_R: Tensor
    frames_RD: Tensor
    logits_RK: Tensor
    spare_RK: Tensor
    stretches: tuple[Stretch, ...] = ()


def frame_tiles(
    frames_MD: Tensor,
    valid_N: Tensor,
    logits: Logits,
    widest: int = 0,
    noise: Noise | None = None,
) -> Iterator[FrameTile]:
    """The frames `valid_N` tile by tile, in buffers that every tile uses again.

    Fresh memory for each tile would take as long as drawing the noise. What stands beside the valid
    frames is never read.

    Args:
        frames_MD: of any floating dtype.
        valid_N: int64, which frames count.
        logits: of the units.
        widest: columns of the widest matrix that the caller makes for a tile beside these.
        noise: that the caller will add: no tile cuts through a stretch of it.
    """
    num_units, dim = logits.weight_KD.shape
    widest = max(num_units, dim, widest)
    num_rows = tile_rows(widest, frames_MD.device)
    cuts: list[tuple[slice, tuple[Stretch, ...]]]
    if noise is None:
        cuts = [(place, ()) for place in tiles(len(valid_N), widest, frames_MD.device)]
    else:
        groups = noise.tiles(num_rows)
        cuts = [(slice(group[0].place.start, group[-1].place.stop), group) for group in groups]
    size = min(len(valid_N), num_rows)
    logits_RK, spare_RK = (logits.weight_KD.new_empty((size, num_units)) for _ in range(2))
    gathered = gathered_tiles(frames_MD, valid_N, widest, [place for place, _ in cuts])
    for (place, frames_RD), (_, stretches) in zip(gathered, cuts, strict=True):
        frames_RD.sub_(logits.origin_D)
        found, spare = logits_RK[: len(frames_RD)], spare_RK[: len(frames_RD)]
        logits.write(frames_RD, found)
        yield FrameTile(place, valid_N[place], frames_RD, found, spare, stretches)


def gathered_tiles(
    frames_MD: Tensor, valid_N: Tensor, widest: int, places: Iterable[slice] | None = None
) -> Iterator[tuple[slice, Tensor]]:
    """The frames `valid_N` tile by tile: place among them, and frames_RD float32 to overwrite.

    `places` are tiles of the caller's own, none above `tile_rows`.
    """
    dim = frames_MD.shape[1]
    size = min(len(valid_N), tile_rows(widest, frames_MD.device))
    gathered_RD = frames_MD.new_empty((size, dim))
    frames_RD = gathered_RD.float()
    if places is None:
        places = tiles(len(valid_N), widest, frames_MD.device)
    for place in places:
        rows_R = valid_N[place]
        gathered = gathered_RD[: len(rows_R)]
        torch.index_select(frames_MD, 0, rows_R, out=gathered)
        yield place, frames_RD[: len(rows_R)].copy_(gathered)
