"""The discriminators: multi-period of HiFi-GAN and multi-resolution of UnivNet.

Kong et al., "HiFi-GAN" (2020), section 2.3; Jang et al., "UnivNet" (2021), section 2.2.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import leaky_relu, pad
from torch.nn.utils.parametrizations import weight_norm

PERIODS = (2, 3, 5, 7, 11)
WINDOWS = (512, 1024, 2048)  # samples; spectra are a quarter of a window apart
SLOPE = 0.1


class Judgement(NamedTuple):
    """The judgement of one discriminator on a batch: scores (high is real) and its layers' outputs."""

    scores: Tensor
    maps: list[Tensor]

    def half(self, index: int) -> "Judgement":
        """The first (0) or second (1) half of the batch."""
        return Judgement(
            self.scores.chunk(2)[index], [layer.chunk(2)[index] for layer in self.maps]
        )


class PeriodDiscriminator(nn.Module):
    """Sees every `period`-th sample: the waveform folded to S / period rows of `period` columns.

    `channels` is the first layer's width; the paper has 32.
    """

    def __init__(self, period: int, channels: int) -> None:
        super().__init__()
        self.period = period
        widths = [1, channels, 4 * channels, 16 * channels, 32 * channels, 32 * channels]
        strides = [3, 3, 3, 3, 1]
        self.layers = nn.ModuleList(
            weight_norm(nn.Conv2d(width, next_width, (5, 1), (stride, 1), (2, 0)))
            for width, next_width, stride in zip(widths[:-1], widths[1:], strides, strict=True)
        )
        self.head = weight_norm(nn.Conv2d(widths[-1], 1, (3, 1), 1, (1, 0)))

    def forward(self, waveform_BS: Tensor) -> Judgement:
        missing = -waveform_BS.shape[1] % self.period
        padded_B1S = pad(waveform_BS[:, None], (0, missing), mode="reflect")
        folded_B1RP = padded_B1S.unflatten(-1, (-1, self.period))
        return _judge(folded_B1RP, self.layers, self.head)


class ResolutionDiscriminator(nn.Module):
    """Sees the magnitudes of spectra of one window length, frames by bins.

    `channels` is the width of all layers; the paper has 32.
    """

    window_W: Tensor

    def __init__(self, window_length: int, channels: int) -> None:
        super().__init__()
        self.register_buffer("window_W", torch.hann_window(window_length), persistent=False)
        kernels = [(3, 9), (3, 9), (3, 9), (3, 9), (3, 3)]
        strides = [1, 2, 2, 2, 1]
        self.layers = nn.ModuleList(
            weight_norm(
                nn.Conv2d(
                    channels if index else 1,
                    channels,
                    kernel,
                    (1, stride),
                    (kernel[0] // 2, kernel[1] // 2),
                )
            )
            for index, (kernel, stride) in enumerate(zip(kernels, strides, strict=True))
        )
        self.head = weight_norm(nn.Conv2d(channels, 1, (3, 3), 1, (1, 1)))

    def forward(self, waveform_BS: Tensor) -> Judgement:
        length = len(self.window_W)
        spectrum_BFT = torch.stft(
            waveform_BS,
            length,
            length // 4,
            window=self.window_W,
            pad_mode="constant",
            return_complex=True,
        )
        magnitude_B1TF = spectrum_BFT.abs().transpose(1, 2)[:, None]
        return _judge(magnitude_B1TF, self.layers, self.head)


class Discriminators(nn.Module):
    """All of them side by side: five periods, three resolutions."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.members = nn.ModuleList(
            [PeriodDiscriminator(period, channels) for period in PERIODS]
            + [ResolutionDiscriminator(window, channels) for window in WINDOWS]
        )

    def forward(self, waveform_BS: Tensor) -> list[Judgement]:
        return [member(waveform_BS) for member in self.members]


def _judge(x: Tensor, layers: nn.ModuleList, head: nn.Module) -> Judgement:
    maps = []
    for layer in layers:
        x = leaky_relu(layer(x), SLOPE)
        maps.append(x)
    scores = head(x)
    maps.append(scores)
    return Judgement(torch.flatten(scores, 1), maps)
