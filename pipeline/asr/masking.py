"""SpecAugment: what is hidden from the encoder in training."""

import torch
from torch import Tensor, nn


class TimeMasking(nn.Module):
    """Time-only SpecAugment (Park et al., 2019).

    Sets `masks` spans to zero in each utterance, each at most `max_share` of its frames long.

    Width and position are drawn uniformly from torch's global generator. In evaluation nothing is
    masked.
    """

    def __init__(self, masks: int, max_share: float) -> None:
        super().__init__()
        self.masks = masks
        self.max_share = max_share

    def forward(self, frames_BTE: Tensor, num_frames_B: Tensor) -> Tensor:
        if not self.training or self.masks == 0:
            return frames_BTE
        device = frames_BTE.device
        lengths_B1 = num_frames_B.to(device)[:, None]
        draws_2BM = torch.rand(2, len(frames_BTE), self.masks, device=device)
        longest_B1 = (lengths_B1 * self.max_share).floor()
        width_BM = (draws_2BM[0] * (longest_B1 + 1)).floor()
        start_BM = (draws_2BM[1] * (lengths_B1 - width_BM + 1)).floor()
        times_T = torch.arange(frames_BTE.shape[1], device=device)[:, None, None]
        blank_TBM = (times_T >= start_BM) & (times_T < start_BM + width_BM)
        return frames_BTE.masked_fill(blank_TBM.any(-1).T[..., None], 0.0)
