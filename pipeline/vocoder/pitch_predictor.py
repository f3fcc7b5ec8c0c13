"""F0 and voicing of each frame, predicted from its units and the speaker."""

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits, gelu

from pipeline.audio.pitch import HIGHEST_HZ, LOWEST_HZ
from pipeline.vocoder.speakers import Speakers
from pipeline.vocoder.voice import UNKNOWN_LOG2_F0

LAYERS = 3
PITCH_CHANNELS = 2


class PitchPredictor(nn.Module):
    """Voicing and log2 F0 above or below the speaker's mean: embedding and convolutions over frames.

    Only the deviation from the mean is learned, so an unheard speaker keeps the F0 that the voice
    has. There is no dropout, so a resumed training needs no random state.
    """

    def __init__(self, num_units: int, speaker_dim: int, dim: int, kernel: int = 7) -> None:
        super().__init__()
        self.embedding = nn.Embedding(num_units, dim)
        widths = [dim + speaker_dim, *[dim] * LAYERS]
        self.convolutions = nn.ModuleList(
            nn.Conv1d(width, next_width, kernel, padding=kernel // 2)
            for width, next_width in pairwise(widths)
        )
        self.head = nn.Linear(dim, 2)

    def forward(
        self, units_BT: Tensor, speakers: Speakers, inside_BT: Tensor
    ) -> tuple[Tensor, Tensor]:
        """B x T logits of being voiced, and log2 F0; no meaning outside a row."""
        vectors_BTS = speakers.vectors_BS[:, None].expand(-1, units_BT.shape[1], -1)
        x_BDT = torch.cat([self.embedding(units_BT), vectors_BTS], dim=-1).transpose(1, 2)
        for convolution in self.convolutions:
            # Masked before each convolution, so a row does not depend on its padding.
            x_BDT = gelu(convolution(x_BDT * inside_BT[:, None]))
        # In bfloat16 F0 would have steps of half a semitone.
        logits_BT, deviation_BT = self.head(x_BDT.transpose(1, 2)).float().unbind(dim=-1)
        return logits_BT, speakers.log2_f0_B[:, None] + deviation_BT

    def loss(self, units_BT: Tensor, speakers: Speakers, f0_BT: Tensor) -> Tensor:
        """Cross-entropy of voicing, plus the mean error of log2 F0 in octaves over voiced frames.

        `f0_BT` is measured, 0 where unvoiced (`pipeline.audio.pitch`).
        """
        inside_BT = torch.ones_like(units_BT, dtype=torch.bool)
        logits_BT, log2_BT = self(units_BT, speakers, inside_BT)
        voiced_BT = f0_BT > 0
        error_BT = (log2_BT - torch.log2(f0_BT.clamp(min=1.0))).abs() * voiced_BT
        voicing = binary_cross_entropy_with_logits(logits_BT, voiced_BT.to(logits_BT.dtype))
        loss: Tensor = voicing + error_BT.sum() / voiced_BT.sum().clamp(min=1)
        return loss

    def predict(self, units_BT: Tensor, speakers: Speakers, inside_BT: Tensor) -> Tensor:
        """B x T hertz, 0 where unvoiced and outside a row."""
        logits_BT, log2_BT = self(units_BT, speakers, inside_BT)
        hz_BT = torch.exp2(log2_BT).clamp(LOWEST_HZ, HIGHEST_HZ)
        voiced_BT: Tensor = hz_BT * ((logits_BT > 0) & inside_BT)
        return voiced_BT


def pitch_channels(f0_BT: Tensor) -> Tensor:
    """B x T x 2: octaves from 147 Hz, 0 where unvoiced, and voicing."""
    voiced_BT = f0_BT > 0
    octaves_BT = (torch.log2(f0_BT.clamp(min=1.0)) - UNKNOWN_LOG2_F0) * voiced_BT
    return torch.stack([octaves_BT, voiced_BT.to(octaves_BT.dtype)], dim=-1)
