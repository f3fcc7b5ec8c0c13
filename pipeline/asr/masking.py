"""SpecAugment (Park et al., 2019): what is hidden from the encoder in training.

Widths and positions of masks are drawn uniformly from torch's global generator. In evaluation, or
with 0 `masks`, nothing is masked or drawn.
"""

import torch
from torch import Tensor, nn


class TimeMasking(nn.Module):
    """Sets `masks` spans of frames to zero in each utterance, each at most `max_share` of them long."""

    def __init__(self, masks: int, max_share: float) -> None:
        super().__init__()
        self.masks = masks
        self.max_share = max_share

    def forward(self, frames_BTE: Tensor, num_frames_B: Tensor) -> Tensor:
        if not self.training or self.masks == 0:
            return frames_BTE
        lengths_B = num_frames_B.to(frames_BTE.device, non_blocking=True)
        masked_BT = _spans(lengths_B, frames_BTE.shape[1], self.masks, self.max_share)
        return frames_BTE.masked_fill(masked_BT[..., None], 0.0)


class WidthMasking(nn.Module):
    """Sets `masks` spans of values to zero in all frames of an utterance, each at most `max_share` wide.

    Neighbouring values of an embedding are no neighbouring frequencies: it is dropout that no other
    frame makes up for, of as many values as a span has, and not what it is to a spectrum.
    """

    def __init__(self, masks: int, max_share: float) -> None:
        super().__init__()
        self.masks = masks
        self.max_share = max_share

    def forward(self, frames_BTE: Tensor) -> Tensor:
        if not self.training or self.masks == 0:
            return frames_BTE
        num_utterances, _, width = frames_BTE.shape
        widths_B = torch.full((num_utterances,), width, device=frames_BTE.device)
        masked_BE = _spans(widths_B, width, self.masks, self.max_share)
        return frames_BTE.masked_fill(masked_BE[:, None], 0.0)


def _spans(lengths_B: Tensor, num_columns: int, masks: int, max_share: float) -> Tensor:
    """B x num_columns, true within `masks` random spans of each row's first `lengths_B` columns."""
    lengths_B1, device = lengths_B[:, None], lengths_B.device
    draws_2BM = torch.rand(2, len(lengths_B), masks, device=device)
    longest_B1 = (lengths_B1 * max_share).floor()
    width_BM = (draws_2BM[0] * (longest_B1 + 1)).floor()
    start_BM = (draws_2BM[1] * (lengths_B1 - width_BM + 1)).floor()
    columns = torch.arange(num_columns, device=device)[:, None, None]
    masked_NBM = (columns >= start_BM) & (columns < start_BM + width_BM)
    return masked_NBM.any(-1).T
