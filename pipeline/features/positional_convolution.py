"""The positional convolution, kept in float32 where a CPU would get it wrong.

On processors with AMX, oneDNN 3.10 (in torch 2.11) returns noise for a bfloat16 convolution of
stride 1 and an even kernel whose groups have 4 to 15 channels: forward and backward are off by as
much as the result itself. Small encoders have such groups (128 channels in 16 groups); the models
on the hub have 48 or 64 channels in a group, which are multiplied correctly.
"""

from types import MethodType
from typing import Any

import torch
from torch import Tensor, nn

FEWEST_CHANNELS = 16  # in a group, from which on bfloat16 is right


def keep_narrow_groups_in_float32(backbone: Any) -> None:
    """Let a positional convolution with narrow groups ignore autocast on a CPU."""
    convolution = backbone.encoder.pos_conv_embed.conv
    if convolution.in_channels < FEWEST_CHANNELS * convolution.groups:
        convolution.forward = MethodType(_convolve, convolution)


def _convolve(convolution: nn.Conv1d, hidden_BDT: Tensor) -> Tensor:
    if hidden_BDT.device.type != "cpu":
        return nn.Conv1d.forward(convolution, hidden_BDT)
    with torch.autocast("cpu", enabled=False):
        return nn.Conv1d.forward(convolution, hidden_BDT.float())
