"""Linear layers that use oneDNN for inference on a CPU.

torch multiplies float32 matrices with MKL, which uses half of the vector units of AMD's processors:
one thread of a Zen 5 reached 105 GFLOP/s with MKL and 220 with oneDNN, on the shapes of a *base*
model. On other processors the two are equally fast.
"""

from types import MethodType
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional


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
        and inputs.dtype == torch.float32
        and not torch.is_grad_enabled()
        and not torch.is_autocast_enabled("cpu")
        and torch.backends.mkldnn.is_available()
    )
