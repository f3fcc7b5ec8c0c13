"""Layers that compute in another way on a CPU, where torch is slow or wrong.

torch multiplies float32 matrices with MKL, which uses half of the vector units of AMD's processors:
one thread of a Zen 5 reached 105 GFLOP/s with MKL and 220 with oneDNN, on the shapes of a *base*
model. On other processors the two are equally fast.

On processors with AMX, oneDNN 3.10 (in torch 2.11) returns noise for a bfloat16 convolution of
stride 1 and an even kernel whose groups have 4 to 15 channels: forward and backward are off by as
much as the result itself. Small encoders have such groups (128 channels in 16 groups); the models
on the hub have 48 or 64 channels in a group, which are multiplied correctly.
"""

from types import MethodType
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

FEWEST_CHANNELS = 16  # in a group, from which on bfloat16 is right


def replace_linears(module: nn.Module) -> None:
    """Let every linear layer inside `module` compute its output with `infer`."""
    for linear in module.modules():
        if type(linear) is nn.Linear:
            linear.forward = MethodType(infer, linear)  # type: ignore[method-assign] # replaced


def infer(linear: nn.Linear, inputs: Tensor) -> Tensor:
    """The layer's output; without gradients it differs in rounding and speed alone."""
    if _suits_onednn(inputs):
        product = torch.ops.mkldnn._linear_pointwise  # noqa: SLF001 - torch's compiler calls it too
        return cast("Tensor", product(inputs, linear.weight, linear.bias, "none", [], ""))
    return functional.linear(inputs, linear.weight, linear.bias)


def _suits_onednn(inputs: Tensor) -> bool:
    return (
        inputs.device.type == "cpu"
        and not torch.compiler.is_compiling()
        and inputs.dtype == torch.float32
        and not torch.is_grad_enabled()
        and not torch.is_autocast_enabled("cpu")
        and torch.backends.mkldnn.is_available()
    )


def keep_narrow_groups_in_float32(backbone: Any) -> None:
    """Let positional convolutions with narrow groups compute in float32 on a CPU, whatever comes."""
    for layer in backbone.encoder.pos_conv_embed.modules():
        if isinstance(layer, nn.Conv1d) and layer.in_channels < FEWEST_CHANNELS * layer.groups:
            layer.forward = MethodType(_convolve, layer)  # type: ignore[method-assign] # replaced


def _convolve(convolution: nn.Conv1d, hidden_BDT: Tensor) -> Tensor:
    if hidden_BDT.device.type != "cpu":
        return nn.Conv1d.forward(convolution, hidden_BDT)
    weight, bias = convolution.weight, convolution.bias
    with torch.autocast("cpu", enabled=False):
        made_BDT: Tensor = convolution._conv_forward(  # noqa: SLF001 - what its own `forward` calls
            hidden_BDT.float(), weight.float(), None if bias is None else bias.float()
        )
        return made_BDT.to(weight.dtype)
