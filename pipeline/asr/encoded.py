"""Utterances as the encoder hears them, which every search reads."""

from dataclasses import dataclass

import torch
from torch import Tensor

from pipeline.asr.encoder import padding_mask


@dataclass(frozen=True)
class Encoded:
    """A batch of encoded utterances.

    Attributes:
        frames_BTD: the encoded frames.
        lengths_B: how many each utterance has.
        log_probs_BTV: CTC's log-probabilities of the pieces in each frame, float32.
    """

    frames_BTD: Tensor
    lengths_B: Tensor
    log_probs_BTV: Tensor

    @property
    def device(self) -> torch.device:
        return self.frames_BTD.device

    @property
    def padding(self) -> Tensor:
        """B x T, true after each utterance's end."""
        return padding_mask(self.lengths_B, self.frames_BTD)
