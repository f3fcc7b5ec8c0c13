"""The squared distance of frames to their centroids, as a loss of the centroids."""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from pipeline.clustering.frame_tiles import gathered_tiles


def count_units(units_N: Tensor, num_units: int) -> Tensor:
    """How often each unit occurs, int64; `bincount` would wait for a GPU to learn the largest."""
    return units_N.new_zeros(num_units).scatter_add_(0, units_N, torch.ones_like(units_N))


def distortion(frames_MD: Tensor, valid_N: Tensor, units_N: Tensor, centroids_KD: Tensor) -> Tensor:
    """sum_n ||sg(s_n) - mu_{u_n}||^2 over the frames `valid_N`; a gradient for centroids alone."""
    with torch.autocast(frames_MD.device.type, enabled=False):
        total: Tensor = _Distortion.apply(  # type: ignore[no-untyped-call] # untyped in torch
            frames_MD.detach(), valid_N, units_N, centroids_KD
        )
        return total


class _Distortion(torch.autograd.Function):
    """Gathers frames and centroids a tile at a time, both ways."""

    @staticmethod
    def forward(
        ctx: Any, frames_MD: Tensor, valid_N: Tensor, units_N: Tensor, centroids_KD: Tensor
    ) -> Tensor:
        total = centroids_KD.new_zeros(())
        for span, frames_RD in gathered_tiles(frames_MD, valid_N, frames_MD.shape[1]):
            difference_RD = frames_RD.sub_(centroids_KD.index_select(0, units_N[span]))
            total += torch.linalg.vecdot(difference_RD, difference_RD).sum()
        ctx.save_for_backward(frames_MD, valid_N, units_N, centroids_KD)
        return total

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, upstream: Tensor) -> tuple[None, None, None, Tensor]:
        """Gradient of mu_k: 2 (count_k mu_k - sum of its frames)."""
        frames_MD, valid_N, units_N, centroids_KD = ctx.saved_tensors
        counts_K = count_units(units_N, len(centroids_KD))
        gradient_KD = centroids_KD * counts_K[:, None]
        for span, frames_RD in gathered_tiles(frames_MD, valid_N, frames_MD.shape[1]):
            gradient_KD.index_add_(0, units_N[span], frames_RD, alpha=-1)
        return None, None, None, gradient_KD.mul_(2 * upstream)
