"""Products and rows of logits on a GPU: float32 quality from tensor cores, everything else fused.

A float32 x is the sum of two float16 numbers, hi + lo, up to 2^-22 of itself, once a power of two
has brought the largest value near float16's largest (the rest of float16's range then holds what is
far smaller). A product of three terms, hi w_hi + lo w_hi + hi w_lo, leaves out only lo w_lo. Stacked
along the inner dimension, the three are one float16 product with float32 sums: [hi | lo | hi] times
[w_hi | w_hi | w_lo]. Nothing frames x units is kept: logits are made for a tile of rows that stays
in the GPU's cache, and one kernel reads each row once.

This module needs Triton, so it is imported where a tensor is on a GPU.

Shapes: M frames with padding, N valid ones, R of them in a tile, D dimensions, K units.
"""

from collections.abc import Iterator

import torch
import triton
from torch import Tensor

from pipeline.clustering.kernels import distance_rows, largest_of_rows, nearest_rows, split_rows
from pipeline.clustering.logits import Logits

# Rows of a tile: enough for every multiprocessor, and few enough for the cache.
TILE_ROWS = 8192
_SPLIT_BLOCK = 1024
# Sums of two parts stay below float16's largest, 2^16.
_EXPONENT = 13

# How a row's two parts are repeated; a product takes one of each.
LEFT, RIGHT = (0, 1, 0), (0, 0, 1)


def block_of(size: int) -> int:
    """Elements of a block that holds a row of `size`: a power of two, and never tiny."""
    return 1 << max(4, (size - 1).bit_length())


def scale_of(largest: Tensor) -> Tensor:
    """The power of two that brings `largest` to 2^12 to 2^13; 1 for zero and what is not finite."""
    exponent = torch.floor(_EXPONENT - torch.log2(largest))
    return torch.where(torch.isfinite(exponent), torch.exp2(exponent), 1.0)


def largest_of(
    rows_RD: Tensor, chosen_R: Tensor | None = None, origin_D: Tensor | None = None
) -> Tensor:
    """The largest finite absolute value of the rows that `split` would take, a scalar tensor."""
    num_rows = len(rows_RD) if chosen_R is None else len(chosen_R)
    largest_R = rows_RD.new_zeros(max(1, num_rows), dtype=torch.float32)
    if num_rows:
        largest_of_rows[(num_rows,)](
            rows_RD,
            rows_RD if chosen_R is None else chosen_R,
            rows_RD if origin_D is None else origin_D,
            largest_R,
            rows_RD.shape[1],
            rows_RD.stride(0),
            HAS_CHOSEN=chosen_R is not None,
            HAS_ORIGIN=origin_D is not None,
            BLOCK=block_of(rows_RD.shape[1]),
        )
    return largest_R.max()


def split(
    rows_RD: Tensor,
    pattern: tuple[int, int, int],
    scale: Tensor,
    *,
    chosen_R: Tensor | None = None,
    origin_D: Tensor | None = None,
    out_R3D: Tensor | None = None,
) -> Tensor:
    """float16 parts of float rows times `scale`, in the order of `pattern` (0 is hi, 1 is lo).

    Args:
        rows_RD: of any floating dtype; contiguous.
        pattern: `LEFT` or `RIGHT`.
        scale: a scalar tensor, of `scale_of`.
        chosen_R: int64, which rows to take; all by default.
        origin_D: float32, subtracted first.
        out_R3D: memory to use.
    """
    num_rows = len(rows_RD) if chosen_R is None else len(chosen_R)
    dim = rows_RD.shape[1]
    if out_R3D is None:
        out_R3D = rows_RD.new_empty((num_rows, 3, dim), dtype=torch.float16)
    if num_rows:
        split_rows[(num_rows, triton.cdiv(dim, _SPLIT_BLOCK))](
            rows_RD,
            rows_RD if chosen_R is None else chosen_R,
            rows_RD if origin_D is None else origin_D,
            scale,
            out_R3D,
            dim,
            rows_RD.stride(0),
            HAS_CHOSEN=chosen_R is not None,
            HAS_ORIGIN=origin_D is not None,
            SECOND_IS_LOW=pattern[1] == 1,
            BLOCK=_SPLIT_BLOCK,
        )
    return out_R3D[:num_rows]


def product(left: Tensor, right: Tensor, out: Tensor, *, adds: bool = False) -> Tensor:
    """Left @ right of float16 with float32 sums, into or on top of the float32 `out`."""
    if not left.is_cuda:  # Triton's interpreter runs on the CPU, whose product has no such form
        sums = left.float() @ right.float()
        return out.add_(sums) if adds else out.copy_(sums)
    if adds:
        return torch.addmm(out, left, right, out_dtype=torch.float32, out=out)
    return torch.mm(left, right, out_dtype=torch.float32, out=out)


class LogitTiles:
    """What logits are made of, a tile of rows at a time, in the memory of the tile before.

    That is the products of frames and weights; for Euclidean logits the distances, which a kernel
    makes of the products. Either way `logit = number * factor + bias`.

    Args:
        frames_MD: of any floating dtype.
        valid_N: int64, which frames count.
        logits: of the units.
        num_rows: of a tile.
        num_parts: how many float32 matrices R x K a tile has side by side; the first is filled.

    Attributes:
        factor: a scalar tensor.
        bias_K: float32.
        largest: the largest absolute value of the valid frames, a scalar tensor.
        scale: of the split frames.
        weight_scale: of the split weights.
        floor: for Euclidean logits alone, the least length that a frame is taken to have where near
            centroids are looked for: a small part of the centroids' mean length.
    """

    def __init__(
        self, frames_MD: Tensor, valid_N: Tensor, logits: Logits, num_rows: int, num_parts: int = 1
    ) -> None:
        self.frames_MD, self.valid_N, self.logits = frames_MD.contiguous(), valid_N, logits
        self.weight_KD = logits.weight_KD.contiguous()
        num_units, dim = self.weight_KD.shape
        self.num_rows = max(1, min(num_rows, len(valid_N)))
        self.weight_scale = scale_of(largest_of(self.weight_KD))
        self.weight_K3D = split(self.weight_KD, RIGHT, self.weight_scale)
        self.largest = largest_of(self.frames_MD, valid_N, logits.origin_D)
        self.scale = scale_of(self.largest)
        self.unscale = 1 / (self.scale * self.weight_scale)
        self.factor, self.bias_K = self.unscale, logits.bias_K
        if logits.sharpness is not None:
            self.factor, self.bias_K = -logits.sharpness, torch.zeros_like(logits.bias_K)
            self.floor = torch.linalg.vector_norm(self.weight_KD / 2, dim=1).mean() / 16
        self.tile_RPK = frames_MD.new_empty(
            (self.num_rows, num_parts, num_units), dtype=torch.float32
        )
        self.frames_R3D = frames_MD.new_empty((self.num_rows, 3, dim), dtype=torch.float16)

    def __iter__(self) -> Iterator[tuple[slice, Tensor, Tensor]]:
        """The span of the tile among the valid frames, tile_RPK, and its frames_R3D."""
        for first in range(0, len(self.valid_N), self.num_rows):
            span = slice(first, min(first + self.num_rows, len(self.valid_N)))
            count = span.stop - first
            frames_R3D = split(
                self.frames_MD,
                LEFT,
                self.scale,
                chosen_R=self.valid_N[span],
                origin_D=self.logits.origin_D,
                out_R3D=self.frames_R3D,
            )
            tile_RPK = self.tile_RPK[:count]
            product(frames_R3D.flatten(1), self.weight_K3D.flatten(1).T, tile_RPK[:, 0])
            if self.logits.sharpness is not None:
                self._write_distances(tile_RPK, self.valid_N[span])
            yield span, tile_RPK, frames_R3D

    def _write_distances(self, tile_RPK: Tensor, chosen_R: Tensor) -> None:
        num_units, dim = self.weight_KD.shape
        distance_rows[(len(tile_RPK),)](
            tile_RPK,
            self.unscale,
            self.logits.bias_K,
            self.floor,
            self.frames_MD,
            chosen_R,
            self.logits.origin_D,
            self.weight_KD,
            num_units,
            dim,
            tile_RPK.stride(0),
            BLOCK_K=block_of(num_units),
            BLOCK_D=block_of(dim),
            num_warps=8,
        )


def nearest(frames_ND: Tensor, logits: Logits) -> tuple[Tensor, Tensor]:
    """Each frame's largest logit and squared distance: units_N int64 and float32.

    `logits` are those of sigma^2 = 1, whose weights are twice the centred centroids.
    """
    frames_ND = frames_ND.contiguous()
    valid_N = torch.arange(len(frames_ND), device=frames_ND.device)
    units_N = torch.empty_like(valid_N)
    squared_distances_N = frames_ND.new_empty(len(frames_ND), dtype=torch.float32)
    num_units, dim = logits.weight_KD.shape
    tiles = LogitTiles(frames_ND, valid_N, logits, TILE_ROWS)
    for span, tile_RPK, _ in tiles:
        nearest_rows[(len(tile_RPK),)](
            tile_RPK,
            tiles.factor,
            tiles.bias_K,
            frames_ND[span],
            tiles.weight_KD,
            logits.origin_D,
            units_N[span],
            squared_distances_N[span],
            num_units,
            dim,
            tile_RPK.stride(0),
            BLOCK_K=block_of(num_units),
            BLOCK_D=block_of(dim),
            num_warps=8,
        )
    return units_N, squared_distances_N
