"""The sums of a soft k-means update, forward and backward on a GPU, a tile of rows at a time.

What `tiled_update` does in torch's operations. This module needs Triton, so it is imported where a
tensor is on a GPU.

Shapes: M frames with padding, N valid ones, R of them in a tile, D dimensions, K units.
"""

import math

import torch
import triton
from torch import Tensor

from pipeline.clustering.fused import (
    RIGHT,
    TILE_ROWS,
    LogitTiles,
    block_of,
    largest_of,
    product,
    scale_of,
    split,
)
from pipeline.clustering.logits import Logits
from pipeline.quantizer.fused_gradients import (
    BACKWARD_ROWS,
    ROWS_OF_A_SUM,
    TileGradients,
    add_sum_over_rows,
    split_part,
    stacked,
    sum_of,
)
from pipeline.quantizer.kernels import UNIT_SCALE, share_rows
from pipeline.quantizer.logit_gradients import LogitGradients
from pipeline.quantizer.noise import Counters


def forward(frames_MD: Tensor, valid_N: Tensor, logits: Logits) -> tuple[Tensor, Tensor]:
    """sums_KD and mass_K, as `soft_update` has them."""
    sums_KD, mass_K = torch.zeros_like(logits.weight_KD), torch.zeros_like(logits.bias_K)
    num_units = len(mass_K)
    tiles = LogitTiles(frames_MD, valid_N, logits, TILE_ROWS, 2)
    sums_SK = sums_KD.new_empty((triton.cdiv(tiles.num_rows, ROWS_OF_A_SUM), num_units))
    for _, tile_RPK, frames_R3D in tiles:
        count = len(tile_RPK)
        share_rows[(triton.cdiv(count, ROWS_OF_A_SUM),)](
            tile_RPK,
            tile_RPK.view(torch.float16),
            tiles.factor,
            tiles.bias_K,
            sums_SK,
            count,
            num_units,
            tile_RPK.stride(0),
            ROWS=ROWS_OF_A_SUM,
            BLOCK_K=block_of(num_units),
            num_warps=8,
        )
        a_R3K = split_part(tile_RPK).unflatten(1, (3, num_units))
        add_sum_over_rows(sums_KD, a_R3K, frames_R3D)
        mass_K.add_(sum_of(sums_SK, count))
    return sums_KD.div_(tiles.scale * UNIT_SCALE.value), mass_K.div_(UNIT_SCALE.value)


def backward(  # noqa: PLR0917 - what the autograd function has
    frames_MD: Tensor,
    valid_N: Tensor,
    logits: Logits,
    mass_K: Tensor,
    of_sums_KD: Tensor,
    of_mass_K: Tensor,
    of_logits: LogitGradients,
    of_frames_MD: Tensor | None,
) -> None:
    """With G and m from above: h = (S - origin) G^T + m, d logits = A (h - sum_k A_k h_k).

    A frame is read twice: it makes the logits, and it is summed up.
    """
    of_sums_KD = of_sums_KD.contiguous()
    num_units, dim = of_sums_KD.shape
    tiles = LogitTiles(frames_MD, valid_N, logits, BACKWARD_ROWS, 2)
    farthest = math.sqrt(dim) * tiles.largest
    largest_h_K = farthest * torch.linalg.vector_norm(of_sums_KD, dim=1) + of_mass_K.abs()
    bound = 2 * _largest_mean(largest_h_K, mass_K.clamp(max=1))
    gradients = TileGradients(tiles, bound, of_logits, of_frames_MD)
    no_noise = Counters.of(None, frames_MD.device)
    scale = scale_of(largest_of(of_sums_KD))
    right_K3D, stacked_JD = split(of_sums_KD, RIGHT, scale), stacked(of_sums_KD, scale)
    a_R3K = own_RD = None
    if of_frames_MD is not None:
        a_R3K = tiles.frames_R3D.new_empty((tiles.num_rows, 3, num_units))
        own_RD = of_sums_KD.new_empty((tiles.num_rows, dim))
    for span, tile_RPK, frames_R3D in tiles:
        count = len(tile_RPK)
        product(frames_R3D.flatten(1), right_K3D.flatten(1).T, tile_RPK[:, 1])
        gradients.write(
            span, tile_RPK, 1 / (tiles.scale * scale), no_noise, bias_of_h_K=of_mass_K, y_R3K=a_R3K
        )
        summed_RD = None
        if a_R3K is not None and own_RD is not None:
            summed_RD = product(a_R3K[:count].flatten(1), stacked_JD, own_RD[:count])
            summed_RD.mul_(gradients.frames_scale / (scale * UNIT_SCALE.value))
        gradients.add(span, tile_RPK, frames_R3D, summed_RD)
    gradients.finish()


def _largest_mean(values_K: Tensor, most_K: Tensor) -> Tensor:
    """The largest mean of values of which each has at most such a share, a scalar tensor.

    A unit that frames hardly share has a gradient a thousand times those of others
    (1 / PRIOR_FRAMES), and next to no part in any h.
    """
    values_K, order_K = values_K.sort(descending=True)
    filled_K = most_K[order_K].cumsum(dim=0).clamp(max=1)
    return filled_K.diff(prepend=filled_K.new_zeros(1)) @ values_K
