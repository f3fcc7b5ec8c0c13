"""The frame-rate generator of Vocos: the spectrum of each frame, and one inverse STFT.

Siuzdak, "Vocos: closing the gap between time-domain and Fourier-based neural vocoders for
high-quality audio synthesis" (ICLR 2024), at the rate of the units.
"""

import torch
from torch import Tensor, nn
from torch.nn.functional import gelu

from pipeline.config import Istft
from pipeline.vocoder.overlap_add import OverlapAdd

# Of a frame's spectrum; a full-scale sine has half of its window, some hundreds.
LARGEST_MAGNITUDE = 1e3


class IstftGenerator(nn.Module):
    """A waveform from conditions at the frame rate: convolutions, ConvNeXt blocks, inverse STFT.

    There is no upsampling, so that a second of speech takes 50 steps of the network and not 16,000.

    Args:
        settings: sizes.
        condition_dim: D of the conditions.
        speaker_dim: S of the speaker.
        hop: samples of a frame.
        band: the part of the spectrum, from 0 Hz on, that is not silent.
    """

    def __init__(
        self,
        settings: Istft,
        condition_dim: int,
        speaker_dim: int,
        hop: int,
        band: float = 1.0,
    ) -> None:
        super().__init__()
        self.overlap_add = OverlapAdd(settings.overlap * hop, hop)
        self.num_bins = 1 + round(band * (self.overlap_add.window_length // 2))
        dim, kernel = settings.dim, settings.kernel
        self.first = nn.Conv1d(condition_dim + speaker_dim, dim, kernel, padding=kernel // 2)
        self.first_norm = nn.LayerNorm(dim)
        self.blocks = nn.ModuleList(
            ConvNeXtBlock(dim, settings.expansion * dim, kernel, 1 / settings.blocks)
            for _ in range(settings.blocks)
        )
        self.last_norm = nn.LayerNorm(dim)
        self.head = nn.Linear(dim, 2 * self.num_bins)

    def forward(self, x_BTD: Tensor, speaker_BS: Tensor, inside_BT: Tensor) -> Tensor:
        """B x T x D conditions and B x S speakers become B x (hop T) samples.

        Frames that are not `inside` their row are silent and leave the others as they are.
        """
        inside_BT1 = inside_BT[:, :, None]
        speaker_BTS = speaker_BS[:, None].expand(-1, x_BTD.shape[1], -1)
        x_BTC = torch.cat([x_BTD, speaker_BTS], dim=-1) * inside_BT1
        x_BTD = self.first_norm(self.first(x_BTC.transpose(1, 2)).transpose(1, 2))
        for block in self.blocks:
            x_BTD = block(x_BTD, inside_BT1)
        spectrum_BTC = self.head(self.last_norm(x_BTD)).float()
        with torch.autocast(x_BTD.device.type, enabled=False):  # no FFT in bfloat16
            return self._waveform(spectrum_BTC, inside_BT)

    def _waveform(self, x_BTC: Tensor, inside_BT: Tensor) -> Tensor:
        log_magnitude_BTF, phase_BTF = x_BTC.chunk(2, dim=-1)
        magnitude_BTF = torch.exp(log_magnitude_BTF).clamp(max=LARGEST_MAGNITUDE)
        spectrum_BTF = torch.complex(
            magnitude_BTF * torch.cos(phase_BTF), magnitude_BTF * torch.sin(phase_BTF)
        )
        waveform_BS: Tensor = self.overlap_add(spectrum_BTF, inside_BT)
        return waveform_BS


class ConvNeXtBlock(nn.Module):
    """A depthwise convolution over time, then two linear layers at each frame, as a residual."""

    def __init__(self, dim: int, inner_dim: int, kernel: int, scale: float) -> None:
        super().__init__()
        self.depthwise = nn.Conv1d(dim, dim, kernel, padding=kernel // 2, groups=dim)
        self.norm = nn.LayerNorm(dim)
        self.widen = nn.Linear(dim, inner_dim)
        self.narrow = nn.Linear(inner_dim, dim)
        self.scale_D = nn.Parameter(torch.full((dim,), scale))

    def forward(self, x_BTD: Tensor, inside_BT1: Tensor) -> Tensor:
        """B x T x D; frames outside their row count as zeros for those inside."""
        y_BTD = self.depthwise((x_BTD * inside_BT1).transpose(1, 2)).transpose(1, 2)
        y_BTD = self.narrow(gelu(self.widen(self.norm(y_BTD))))
        return x_BTD + self.scale_D * y_BTD
