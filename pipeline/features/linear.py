"""Linear layers that use oneDNN for inference on a CPU.

torch multiplies float32 matrices with MKL, which uses half of the vector units of AMD's processors:
one thread of a Zen 5 reached 105 GFLOP/s with MKL and 220 with oneDNN, on the shapes of a *base*
model. On other processors the two are equally fast.
"""

from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional


class InferringLinear(nn.Linear):
    """A linear layer whose results without gradients differ in rounding and speed alone.

    It shares the parameters of the layer that it replaces, under the same names.
    """

    def __init__(self, linear: nn.Linear) -> None:
        nn.Module.__init__(self)
        self.in_features, self.out_features = linear.in_features, linear.out_features
        self.weight, self.bias = linear.weight, linear.bias
        self.train(linear.training)

    def forward(self, inputs: Tensor) -> Tensor:
        if _suits_onednn(inputs):
            product = torch.ops.mkldnn._linear_pointwise  # noqa: SLF001 - torch's compiler calls it too
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
    """Replace every linear layer inside `module` by an InferringLinear."""
    for name, child in module.named_children():
        if type(child) is nn.Linear:
            setattr(module, name, InferringLinear(child))
        else:
            replace_linears(child)
