"""The generator of HiFi-GAN, which upsamples to the sample rate (Kong et al., 2020, section 2.2)."""

from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor, nn
from torch.nn.functional import leaky_relu
from transformers import SpeechT5HifiGan, SpeechT5HifiGanConfig

from pipeline.config import Hifigan

if TYPE_CHECKING:
    from transformers.models.speecht5.modeling_speecht5 import HifiGanResidualBlock

SLOPE = 0.1


class HifiganGenerator(nn.Module):
    """A waveform from conditions at the frame rate: transposed convolutions and residual blocks.

    The layers are those of transformers; its own forward pass knows no lengths.

    Args:
        settings: sizes; the product of the upsample rates is the number of samples of a frame.
        condition_dim: D of the conditions.
        speaker_dim: S of the speaker.
    """

    def __init__(self, settings: Hifigan, condition_dim: int, speaker_dim: int) -> None:
        super().__init__()
        self.rates = settings.upsample_rates
        layers = SpeechT5HifiGan(
            SpeechT5HifiGanConfig(
                model_in_dim=condition_dim + speaker_dim,
                upsample_initial_channel=settings.initial_channels,
                upsample_rates=list(settings.upsample_rates),
                upsample_kernel_sizes=list(settings.upsample_kernels),
                resblock_kernel_sizes=list(settings.resblock_kernels),
                resblock_dilation_sizes=[list(rates) for rates in settings.resblock_dilations],
            )
        )
        self.first, self.last = layers.conv_pre, layers.conv_post
        self.upsamplers, self.residuals = layers.upsampler, layers.resblocks
        # transformers initialises weights with a deviation of 0.01, which is meant for weight norm:
        # without it the signal fades from layer to layer. torch's own initialisation learns faster,
        # and weights without weight norm can be saved as they are.
        for module in self.modules():
            if isinstance(module, nn.Conv1d | nn.ConvTranspose1d):
                module.reset_parameters()

    def forward(self, x_BTD: Tensor, speaker_BS: Tensor, inside_BT: Tensor) -> Tensor:
        """B x T x D conditions and B x S speakers become B x (hop T) samples in (-1, 1).

        Frames that are not `inside` their row leave the others as they are.
        """
        speaker_BTS = speaker_BS[:, None].expand(-1, x_BTD.shape[1], -1)
        x_BCT = torch.cat([x_BTD, speaker_BTS], dim=-1).transpose(1, 2)
        inside_B1T = inside_BT[:, None]
        x_BCT = self.first(x_BCT * inside_B1T)
        each = len(self.residuals) // len(self.rates)
        for index, (rate, upsampler) in enumerate(zip(self.rates, self.upsamplers, strict=True)):
            x_BCT = upsampler(leaky_relu(x_BCT, SLOPE) * inside_B1T)
            inside_B1T = inside_B1T.repeat_interleave(rate, dim=-1)
            blocks = list(self.residuals)[index * each : (index + 1) * each]
            x_BCT = torch.stack([_residual(block, x_BCT, inside_B1T) for block in blocks]).mean(0)
        waveform_BS: Tensor = torch.tanh(self.last(leaky_relu(x_BCT) * inside_B1T)).squeeze(1)
        return waveform_BS


def _residual(block: nn.Module, x_BCT: Tensor, inside_B1T: Tensor) -> Tensor:
    """A block of transformers; each convolution sees zeros outside a row, as at its ends."""
    layers = cast("HifiGanResidualBlock", block)
    for first, second in zip(layers.convs1, layers.convs2, strict=True):
        y_BCT = first(leaky_relu(x_BCT, SLOPE) * inside_B1T)
        x_BCT = x_BCT + second(leaky_relu(y_BCT, SLOPE) * inside_B1T)
    return x_BCT
