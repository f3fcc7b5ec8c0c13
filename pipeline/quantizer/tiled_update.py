"""The sums of a soft k-means update, forward and backward in torch's own operations.

Shapes: M frames with padding, N valid ones, R of them in a tile, D dimensions, K units.
"""

import torch
from torch import Tensor

from pipeline.clustering.frame_tiles import frame_tiles
from pipeline.clustering.logits import Logits
from pipeline.quantizer.logit_gradients import LogitGradients


def forward(frames_MD: Tensor, valid_N: Tensor, logits: Logits) -> tuple[Tensor, Tensor]:
    """sums_KD and mass_K, as `soft_update` has them."""
    sums_KD, mass_K = torch.zeros_like(logits.weight_KD), torch.zeros_like(logits.bias_K)
    for tile in frame_tiles(frames_MD, valid_N, logits):
        a_RK = torch.softmax(tile.logits_RK, dim=1, out=tile.spare_RK)
        sums_KD.addmm_(a_RK.T, tile.frames_RD)
        mass_K.add_(a_RK.sum(dim=0))
    return sums_KD, mass_K


def backward(  # noqa: PLR0917 - what the autograd function has
    frames_MD: Tensor,
    valid_N: Tensor,
    logits: Logits,
    of_sums_KD: Tensor,
    of_mass_K: Tensor,
    of_logits: LogitGradients,
    of_frames_MD: Tensor | None,
) -> None:
    """With G and m from above: h = (S - origin) G^T + m, d logits = A (h - sum_k A_k h_k).

    A frame is read twice: it makes the logits, and it is summed up.
    """
    for tile in frame_tiles(frames_MD, valid_N, logits):
        a_RK = torch.softmax(tile.logits_RK, dim=1, out=tile.spare_RK)
        # The logits are no longer needed: h overwrites them, then the gradient.
        h_RK = torch.addmm(of_mass_K, tile.frames_RD, of_sums_KD.T, out=tile.logits_RK)
        mean_R = torch.linalg.vecdot(a_RK, h_RK)
        of_logits_RK = h_RK.sub_(mean_R[:, None]).mul_(a_RK)
        of_logits.add(logits, tile, of_logits_RK, to_frames=of_frames_MD is not None)
        if of_frames_MD is not None:
            tile.frames_RD.addmm_(a_RK, of_sums_KD)
            of_frames_MD.index_copy_(0, tile.rows_R, tile.frames_RD.to(of_frames_MD.dtype))
