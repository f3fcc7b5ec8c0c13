"""The frame-rate generator of Vocos: the spectrum of each frame, and one inverse STFT.

Siuzdak, "Vocos: closing the gap between time-domain and Fourier-based neural vocoders for
high-quality audio synthesis" (ICLR 2024), at the rate of the units.
"""

import torch
from torch import Tensor, nn
from torch.nn.functional import gelu

from pipeline.config import Istft
from pipeline.vocoder.excitation import Excitation
from pipeline.vocoder.overlap_add import OverlapAdd

# Of a frame's spectrum; a full-scale sine has half of its window, some hundreds.
LARGEST_MAGNITUDE = 1e3
# Log gain of filters before training: excitations have the power 1, speech some thousandths. From a
# gain of 1, a third of 300 steps went by before the spectrum was that of speech.
START = -4.0


class IstftGenerator(nn.Module):
    """A waveform from conditions at the frame rate: convolutions, ConvNeXt blocks, inverse STFT.

    There is no upsampling, so that a second of speech takes 50 steps of the network and not 16,000.

    Args:
        settings: sizes.
        condition_dim: D of the conditions.
        speaker_dim: S of the speaker.
        hop: samples of a frame.
        band: the part of the spectrum, from 0 Hz on, that is not silent.
        excitation: if given, the network makes two filters, of pulses and of noise; otherwise it
            makes magnitudes and phases.
    """

    def __init__(
        self,
        settings: Istft,
        condition_dim: int,
        speaker_dim: int,
        hop: int,
        *,
        band: float = 1.0,
        excitation: Excitation | None = None,
    ) -> None:
        super().__init__()
        self.excitation = excitation
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
        if excitation is not None:
            nn.init.constant_(self.head.bias, START)

    def forward(
        self,
        x_BTD: Tensor,
        speaker_BS: Tensor,
        inside_BT: Tensor,
        f0_BT: Tensor | None = None,
    ) -> Tensor:
        """B x T x D conditions and B x S speakers become B x (hop T) samples.

        Frames that are not `inside` their row are silent and leave the others as they are. F0 is for
        the excitation, 0 where unvoiced.
        """
        inside_BT1 = inside_BT[:, :, None]
        speaker_BTS = speaker_BS[:, None].expand(-1, x_BTD.shape[1], -1)
        x_BTC = torch.cat([x_BTD, speaker_BTS], dim=-1) * inside_BT1
        x_BTD = self.first_norm(self.first(x_BTC.transpose(1, 2)).transpose(1, 2))
        for block in self.blocks:
            x_BTD = block(x_BTD, inside_BT1)
        x_BTC = self.head(self.last_norm(x_BTD)).float()
        with torch.autocast(x_BTC.device.type, enabled=False):  # no FFT in bfloat16
            spectrum_BTF = (
                _polar(x_BTC) if f0_BT is None else self._filtered(x_BTC, inside_BT, f0_BT)
            )
            waveform_BS: Tensor = self.overlap_add(spectrum_BTF, inside_BT)
        return waveform_BS

    def _filtered(self, x_BTC: Tensor, inside_BT: Tensor, f0_BT: Tensor) -> Tensor:
        """B x T x F: the spectra of pulses and of noise, each times its filter."""
        assert self.excitation is not None  # noqa: S101 - F0 is given to those who have one
        pulses_BTF, noise_BTF = (
            self.overlap_add.spectrum(samples_BS)[:, :, : self.num_bins]
            for samples_BS in self.excitation(f0_BT, inside_BT)
        )
        pulse_filter_BTF, noise_filter_BTF = map(_magnitude, x_BTC.chunk(2, dim=-1))
        return pulses_BTF * pulse_filter_BTF + noise_BTF * noise_filter_BTF


def _polar(x_BTC: Tensor) -> Tensor:
    """B x T x F complex numbers from logarithms of magnitudes and from phases."""
    log_magnitude_BTF, phase_BTF = x_BTC.chunk(2, dim=-1)
    magnitude_BTF = _magnitude(log_magnitude_BTF)
    return torch.complex(magnitude_BTF * torch.cos(phase_BTF), magnitude_BTF * torch.sin(phase_BTF))


def _magnitude(log_BTF: Tensor) -> Tensor:
    magnitude_BTF: Tensor = torch.exp(log_BTF).clamp(max=LARGEST_MAGNITUDE)
    return magnitude_BTF


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
        narrowed_BTD: Tensor = self.narrow(gelu(self.widen(self.norm(y_BTD))))
        return x_BTD + self.scale_D * narrowed_BTD
