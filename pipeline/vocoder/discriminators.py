"""Multi-period and multi-scale discriminators of HiFi-GAN (Kong et al., 2020, section 2.3)."""

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import leaky_relu, pad
from torch.nn.utils.parametrizations import weight_norm

PERIODS = (2, 3, 5, 7, 11)
SCALES = 3
SLOPE = 0.1


class Judgement(NamedTuple):
    """The judgement of one discriminator on a batch: scores (1 is real) and its layers' outputs."""

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


class ScaleDiscriminator(nn.Module):
    """Sees the waveform averaged over `reduction` samples; the paper's widths at 32 channels."""

    def __init__(self, reduction: int, channels: int) -> None:
        super().__init__()
        self.pool = nn.AvgPool1d(2 * reduction, reduction, reduction)
        self.reduction = reduction
        widths = [factor * channels for factor in (4, 4, 8, 16, 32, 32, 32)]
        kernels = [15, 41, 41, 41, 41, 41, 5]
        strides = [1, 2, 2, 4, 4, 1, 1]
        groups = [1, 4, 16, 16, 16, 16, 1]
        self.layers = nn.ModuleList(
            weight_norm(
                nn.Conv1d(
                    width, next_width, kernel, stride, kernel // 2, groups=min(group, channels)
                )
            )
            for width, next_width, kernel, stride, group in zip(
                [1, *widths[:-1]], widths, kernels, strides, groups, strict=True
            )
        )
        self.head = weight_norm(nn.Conv1d(widths[-1], 1, 3, 1, 1))

    def forward(self, waveform_BS: Tensor) -> Judgement:
        x_B1S = waveform_BS[:, None]
        return _judge(self.pool(x_B1S) if self.reduction > 1 else x_B1S, self.layers, self.head)


class Discriminators(nn.Module):
    """All of them side by side: five periods, three scales (1, 2 and 4 samples averaged)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.members = nn.ModuleList(
            [PeriodDiscriminator(period, channels) for period in PERIODS]
            + [ScaleDiscriminator(2**scale, channels) for scale in range(SCALES)]
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
