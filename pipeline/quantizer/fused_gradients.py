"""From the gradient of logits back to that of what made them, on a GPU, a tile of rows at a time.

What `logit_gradients` does in torch's operations: float16 parts of a tile's gradient go into the two
products, with the weights for the frames and with the frames for the weights. Euclidean logits first
turn into products, by one kernel.

This module needs Triton, so it is imported where a tensor is on a GPU.

Shapes: M frames with padding, R of a tile, S sums over some of its rows, D dimensions, K units.
"""

import torch
import triton
from torch import Tensor

from pipeline.clustering.fused import LEFT, LogitTiles, block_of, product, scale_of, split
from pipeline.clustering.kernels import NEAR
from pipeline.quantizer.kernels import UNIT_SCALE, gradient_rows, pull_rows, scatter_rows
from pipeline.quantizer.logit_gradients import LogitGradients
from pipeline.quantizer.noise import Counters

# The backward pass holds two matrices of a tile, and split copies of what it multiplies.
BACKWARD_ROWS = 4096
# Rows that one program sums up.
ROWS_OF_A_SUM = 16


class TileGradients:
    """Adds what the gradients of a tile's logits make, for one tile after the other.

    Args:
        tiles: of two parts.
        bound: no gradient of a logit is larger; a scalar tensor.
        targets: what to add to.
        of_frames_MD: where to write the gradient of the frames; None if they need none.

    Attributes:
        frames_scale: of the frames' gradient before it is written.
    """

    def __init__(
        self,
        tiles: LogitTiles,
        bound: Tensor,
        targets: LogitGradients,
        of_frames_MD: Tensor | None,
    ) -> None:
        self.tiles, self.targets, self.of_frames_MD = tiles, targets, of_frames_MD
        self.sharpness = tiles.logits.sharpness
        split_frames_scale = tiles.scale
        if self.sharpness is not None:
            # The slope of a far pair's root, times the reach of the frame, is at most 1 / (2 NEAR).
            bound = bound * self.sharpness / (2 * NEAR.value)
            split_frames_scale = torch.full_like(tiles.scale, UNIT_SCALE.value)
        self._scale = scale_of(bound)
        self.frames_scale = self._scale * tiles.weight_scale
        self._weights_scale = self._scale * split_frames_scale
        self._stacked_JD = stacked(tiles.weight_KD, tiles.weight_scale)
        num_sums = triton.cdiv(tiles.num_rows, ROWS_OF_A_SUM)
        self._sums_SK = tiles.weight_KD.new_empty((num_sums, len(tiles.weight_KD)))

    def write(
        self,
        span: slice,
        tile_RPK: Tensor,
        unscale_h: Tensor,
        counters: Counters,
        *,
        tau: float = 1.0,
        bias_of_h_K: Tensor | None = None,
        y_R3K: Tensor | None = None,
    ) -> None:
        """Turn h, in the second part, into y (h - sum_k y_k h_k) / tau, the gradient of the logits.

        Args:
            span: of the tile.
            tile_RPK: the first part as `LogitTiles` has it.
            unscale_h: what the second part is to be multiplied with.
            counters: of the noise that makes y.
            tau: temperature of y.
            bias_of_h_K: to be added to h.
            y_R3K: memory for y, which is split and times `UNIT_SCALE`, if it is wanted.
        """
        count, _, num_units = tile_RPK.shape
        gradient_rows[(triton.cdiv(count, ROWS_OF_A_SUM),)](
            tile_RPK,
            tile_RPK.view(torch.float16),
            tile_RPK if y_R3K is None else y_R3K,
            self.tiles.factor,
            unscale_h,
            self._scale,
            self.tiles.bias_K,
            self.tiles.bias_K if bias_of_h_K is None else bias_of_h_K,
            counters.key_N[span],
            counters.index_N[span],
            counters.seed,
            self._sums_SK,
            1.0 / tau,
            count,
            num_units,
            tile_RPK.stride(0),
            NOISE=counters.draws,
            SOFT=y_R3K is not None,
            HAS_BIAS=bias_of_h_K is not None,
            EUCLIDEAN=self.sharpness is not None,
            ROWS=ROWS_OF_A_SUM,
            BLOCK_K=block_of(num_units),
            num_warps=8,
        )

    def add(
        self, span: slice, tile_RPK: Tensor, frames_R3D: Tensor, own_RD: Tensor | None = None
    ) -> None:
        """Add what a written tile makes; it is overwritten, and `frames_R3D` too.

        `own_RD` is what its frames get besides, times `frames_scale`.
        """
        count, _, num_units = tile_RPK.shape
        dim = self.tiles.weight_KD.shape[1]
        reach_R = None
        if self.sharpness is not None:
            own_RD = self._sums_SK.new_zeros((count, dim)) if own_RD is None else own_RD
            reach_R = self._pull(span, tile_RPK, frames_R3D, own_RD, self.sharpness)
        gradient_RJ = split_part(tile_RPK)
        if self.targets.weight_KD is not None and self.targets.bias_K is not None:
            gradient_R3K = gradient_RJ.unflatten(1, (3, num_units))
            add_sum_over_rows(self.targets.weight_KD, gradient_R3K, frames_R3D)
            self.targets.bias_K.add_(sum_of(self._sums_SK, count))
        if self.of_frames_MD is not None:
            # What the products above have read makes room for the gradient of the frames.
            of_frames_RD = _reused(frames_R3D, (count, dim)) if own_RD is None else own_RD
            product(gradient_RJ, self._stacked_JD, of_frames_RD, adds=own_RD is not None)
            if reach_R is not None:
                of_frames_RD.div_(reach_R[:, None])
            chosen_R = self.tiles.valid_N[span]
            scatter(of_frames_RD, chosen_R, 1 / self.frames_scale, self.of_frames_MD)

    def finish(self) -> None:
        """Undo the scale of the sums; after the last tile."""
        if self.targets.weight_KD is not None:
            self.targets.weight_KD.div_(self._weights_scale)

    def _pull(
        self, span: slice, tile_RPK: Tensor, frames_R3D: Tensor, own_RD: Tensor, sharpness: Tensor
    ) -> Tensor:
        """From distances to products; returns the reach of each frame, by which `own` is larger."""
        count, _, num_units = tile_RPK.shape
        of_sharpness_R, reach_R = own_RD.new_empty(count), own_RD.new_empty(count)
        of_weight_KD = self.targets.weight_KD
        pull_rows[(triton.cdiv(count, ROWS_OF_A_SUM),)](
            tile_RPK,
            tile_RPK.view(torch.float16),
            frames_R3D,
            sharpness,
            self.tiles.floor,
            self._scale,
            self.tiles.frames_MD,
            self.tiles.valid_N[span],
            self.tiles.logits.origin_D,
            self.tiles.weight_KD,
            of_sharpness_R,
            reach_R,
            self._sums_SK,
            own_RD,
            self.frames_scale,
            own_RD if of_weight_KD is None else of_weight_KD,
            self._weights_scale,
            count,
            num_units,
            own_RD.shape[1],
            tile_RPK.stride(0),
            TO_WEIGHT=of_weight_KD is not None,
            ROWS=ROWS_OF_A_SUM,
            BLOCK_K=block_of(num_units),
            BLOCK_D=block_of(own_RD.shape[1]),
            num_warps=8,
        )
        if self.targets.sharpness is not None:
            self.targets.sharpness.sub_(of_sharpness_R.sum())
        return reach_R


def stacked(rows_KD: Tensor, scale: Tensor) -> Tensor:
    """[hi; lo; hi] of all rows, 3K x D: what a split row [hi | hi | lo] of K is multiplied with."""
    return split(rows_KD.contiguous(), LEFT, scale).transpose(0, 1).flatten(0, 1).contiguous()


def split_part(tile_RPK: Tensor) -> Tensor:
    """The first 3 K float16 numbers of each row, R x 3K."""
    num_units = tile_RPK.shape[2]
    return tile_RPK.view(torch.float16).flatten(1)[:, : 3 * num_units]


def add_sum_over_rows(target_KD: Tensor, left_R3K: Tensor, right_R3D: Tensor) -> None:
    """Target += left^T right of rows split as (hi, hi, lo) and (hi, lo, hi)."""
    for part in range(3):
        product(left_R3K[:, part].T, right_R3D[:, part], target_KD, adds=True)


def sum_of(sums_SK: Tensor, count: int) -> Tensor:
    """Over the first `count` rows, of which each program has summed up some."""
    return sums_SK[: triton.cdiv(count, ROWS_OF_A_SUM)].sum(dim=0)


def scatter(rows_RD: Tensor, chosen_R: Tensor, unscale: Tensor, out_MD: Tensor) -> None:
    """out[chosen] = rows * unscale."""
    num_rows, dim = rows_RD.shape
    block = block_of(dim)
    scatter_rows[(num_rows,)](rows_RD, chosen_R, unscale, out_MD, dim, BLOCK=block)


def _reused(memory: Tensor, shape: tuple[int, int]) -> Tensor:
    """A float32 matrix in the memory of a contiguous float16 tensor that is read no more."""
    return memory.flatten()[: 2 * shape[0] * shape[1]].view(torch.float32).view(shape)
