"""Linear layers that infer on a CPU by oneDNN.

torch multiplies float32 matrices by MKL, which on AMD's processors keeps to half of their vector
units: one thread of a Zen 5 did 105 GFLOP/s with it and 220 with oneDNN, for the shapes of a *base*
model. On other processors the two are alike.
"""

from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional


class InferringLinear(nn.Linear):
    """A linear layer, the same but for rounding and speed where no gradient is asked for.

    It shares the parameters of the layer that it is made from, under the same names.
    """

    def __init__(self, linear: nn.Linear) -> None:
        nn.Module.__init__(self)
        self.in_features, self.out_features = linear.in_features, linear.out_features
        self.weight, self.bias = linear.weight, linear.bias
        self.train(linear.training)

    def forward(self, inputs: Tensor) -> Tensor:
        if _suits_onednn(inputs):
            product = torch.ops.mkldnn._linear_pointwise  # noqa: SLF001 - as torch's compiler does
            return cast("Tensor", product(inputs, self.weight, self.bias, "none", [], ""))
        return functional.linear(inputs, self.weight, self.bias)


def _suits_onednn(inputs: Tensor) -> bool:
    return (
        inputs.device.type == "cpu"
        and inputs.dtype == torch.float32
        and not torch.is_grad_enabled()
        and not torch.is_autocast_enabled("cpu")
        and torch.backends.mkldnn.is_available()
    )


def replace_linears(module: nn.Module) -> None:
    """Make every linear layer inside `module` an InferringLinear."""
    for name, child in module.named_children():
        if type(child) is nn.Linear:
            setattr(module, name, InferringLinear(child))
        else:
            replace_linears(child)
