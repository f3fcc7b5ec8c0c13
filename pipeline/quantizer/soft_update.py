"""One soft k-means update, through which gradients flow, with nothing frames x units kept.

Cho, Alizadeh-Vahid, Adya, Rastegari: "DKM: Differentiable k-Means Clustering Layer for Neural
Network Compression", ICLR 2022. The forward pass keeps its inputs alone; the backward pass computes
the assignment A again, a tile of frames at a time.

Shapes: M frames with padding, N valid ones, R of them in a tile, D dimensions, K units.
"""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from pipeline.clustering.frame_tiles import frame_tiles
from pipeline.clustering.logits import Distance, Logits
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
        sums_KD, mass_K = torch.zeros_like(weight_KD), torch.zeros_like(bias_K)
        logits = Logits(weight_KD, bias_K, origin_D, sharpness)
        for tile in frame_tiles(frames_MD, valid_N, logits):
            a_RK = torch.softmax(tile.logits_RK, dim=1, out=tile.spare_RK)
            sums_KD.addmm_(a_RK.T, tile.frames_RD)
            mass_K.add_(a_RK.sum(dim=0))
        ctx.save_for_backward(frames_MD, valid_N, origin_D, weight_KD, bias_K, sharpness)
        return sums_KD, mass_K

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, sums_KD: Tensor, mass_K: Tensor) -> tuple[Tensor | None, ...]:
        """With upstream G and m: h = (S - origin) G^T + m, d logits = A (h - sum_k A_k h_k).

        A frame is read twice: it makes the logits, and it is summed up.
        """
        frames_MD, valid_N, origin_D, weight_KD, bias_K, sharpness = ctx.saved_tensors
        of_frames_MD = torch.zeros_like(frames_MD) if ctx.needs_input_grad[0] else None
        logits = Logits(weight_KD, bias_K, origin_D, sharpness)
        of_logits = LogitGradients.zeros(logits)
        # If backward() is called under autocast, vecdot would be in bfloat16.
        with torch.autocast(frames_MD.device.type, enabled=False):
            for tile in frame_tiles(frames_MD, valid_N, logits):
                a_RK = torch.softmax(tile.logits_RK, dim=1, out=tile.spare_RK)
                # The logits are no longer needed: h overwrites them, then the gradient.
                h_RK = torch.addmm(mass_K, tile.frames_RD, sums_KD.T, out=tile.logits_RK)
                mean_R = torch.linalg.vecdot(a_RK, h_RK)
                of_logits_RK = h_RK.sub_(mean_R[:, None]).mul_(a_RK)
                of_logits.add(logits, tile, of_logits_RK, to_frames=of_frames_MD is not None)
                if of_frames_MD is not None:
                    tile.frames_RD.addmm_(a_RK, sums_KD)
                    of_frames_MD.index_copy_(0, tile.rows_R, tile.frames_RD.to(of_frames_MD.dtype))
        return (
            of_frames_MD,
            None,
            None,
            of_logits.weight_KD,
            of_logits.bias_K,
            of_logits.sharpness,
        )
