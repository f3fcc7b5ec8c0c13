"""One soft k-means update, through which gradients flow, with nothing frames x units kept.

Cho, Alizadeh-Vahid, Adya, Rastegari: "DKM: Differentiable k-Means Clustering Layer for Neural
Network Compression", ICLR 2022. The forward pass keeps its inputs alone; the backward pass computes
the assignment A again, a tile of frames at a time: in torch's operations (`tiled_update`), or on a
GPU in kernels of our own (`fused_update`).

Shapes: M frames with padding, N valid ones, D dimensions, K units.
"""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from pipeline.clustering.logits import Distance, Logits
from pipeline.clustering.tiles import is_fused, kernels_on
from pipeline.quantizer import tiled_update
from pipeline.quantizer.logit_gradients import LogitGradients

# How many frames a centroid's old position counts for.
PRIOR_FRAMES = 1e-3


def soft_update(
    frames_MD: Tensor,
    valid_N: Tensor,
    centroids_KD: Tensor,
    sigma_squared: Tensor | float,
    distance: Distance = "squared",
) -> Tensor:
    """Move each centroid to the mean of the frames `valid_N`, weighted by its share of each frame.

    With A = softmax_k(-sigma^2 d(s_n, mu_k)):

        mu'_k = (kappa mu_k + sum_n A_nk s_n) / (kappa + sum_n A_nk),   kappa = PRIOR_FRAMES.

    Cho et al. have kappa = 0, which divides zero by zero where no frame is near. Here a unit with
    the mass of one frame goes 99.9 % of the way to its mean, one with far less than kappa stays,
    exactly so at zero, and in between nothing jumps. As kappa refers to the position before
    this update, not before the first, repeated updates come to rest where Cho's do.

    First-order gradients reach frames, centroids and sigma^2. All of it is float32, under autocast
    too.

    Args:
        frames_MD: of any floating dtype; only the valid ones are read.
        valid_N: int64, which frames count; if there are none, the centroids stay.
        centroids_KD: before the update.
        sigma_squared: how sharp A is.
        distance: what d is.
    """
    with torch.autocast(frames_MD.device.type, enabled=False):
        logits = Logits.of(centroids_KD, sigma_squared, distance)
        parts = (logits.origin_D, logits.weight_KD, logits.bias_K, logits.sharpness)
        sums_KD, mass_K = _SoftSums.apply(frames_MD, valid_N, *parts)  # type: ignore[no-untyped-call] # untyped in torch
        centroids_KD = centroids_KD.float()
        # sum_n A_nk (s_n - mu_k): zero, and not merely small, where there is no mass.
        pull_KD = sums_KD - mass_K[:, None] * (centroids_KD - logits.origin_D)
        moved_KD: Tensor = centroids_KD + pull_KD / (mass_K[:, None] + PRIOR_FRAMES)
        return moved_KD


class _SoftSums(torch.autograd.Function):
    """A^T (S - origin) and A^T 1 over the valid frames S, A being the softmax of their logits."""

    @staticmethod
    def forward(  # noqa: PLR0917 (torch passes them so)
        ctx: Any,
        frames_MD: Tensor,
        valid_N: Tensor,
        origin_D: Tensor,
        weight_KD: Tensor,
        bias_K: Tensor,
        sharpness: Tensor | None,
    ) -> tuple[Tensor, Tensor]:
        logits = Logits(weight_KD, bias_K, origin_D, sharpness)
        ctx.is_fused = is_fused(frames_MD, len(weight_KD))
        if ctx.is_fused:
            from pipeline.quantizer import fused_update

            with kernels_on(frames_MD):
                sums_KD, mass_K = fused_update.forward(frames_MD, valid_N, logits)
        else:
            sums_KD, mass_K = tiled_update.forward(frames_MD, valid_N, logits)
        ctx.save_for_backward(frames_MD, valid_N, origin_D, weight_KD, bias_K, sharpness, mass_K)
        return sums_KD, mass_K

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, of_sums_KD: Tensor, of_mass_K: Tensor) -> tuple[Tensor | None, ...]:
        frames_MD, valid_N, origin_D, weight_KD, bias_K, sharpness, mass_K = ctx.saved_tensors
        of_frames_MD = (
            torch.zeros_like(frames_MD, memory_format=torch.contiguous_format)
            if ctx.needs_input_grad[0]
            else None
        )
        logits = Logits(weight_KD, bias_K, origin_D, sharpness)
        of_logits = LogitGradients.zeros(logits)
        upstream, targets = (of_sums_KD, of_mass_K), (of_logits, of_frames_MD)
        # If backward() is called under autocast, some of this would be in bfloat16.
        with torch.autocast(frames_MD.device.type, enabled=False):
            if ctx.is_fused:
                from pipeline.quantizer import fused_update

                fused_update.backward(frames_MD, valid_N, logits, mass_K, *upstream, *targets)
            else:
                tiled_update.backward(frames_MD, valid_N, logits, *upstream, *targets)
        return (
            of_frames_MD,
            None,
            None,
            of_logits.weight_KD,
            of_logits.bias_K,
            of_logits.sharpness,
        )
