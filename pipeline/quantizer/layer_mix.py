"""The weighted sum of an SSL model's hidden layers."""

import math

import torch
from torch import Tensor, nn


class LayerMix(nn.Module):
    """s = sum_l softmax(w)_l h_l; with one layer the identity.

    Args:
        num_layers: L, how many layers are mixed.
        initial: the position (0 ... L - 1) of the layer that starts with `initial_mass`.
        initial_mass: that layer's weight at the start; the others share the rest equally.
        learned: whether the weights take a gradient.
    """

    def __init__(self, num_layers: int, initial: int, initial_mass: float, learned: bool) -> None:  # noqa: FBT001
        super().__init__()
        if not 0 <= initial < num_layers:
            raise ValueError(f"initial layer {initial} is not among the {num_layers} mixed layers")
        if not 0 < initial_mass < 1:
            raise ValueError(f"initial_mass must lie between 0 and 1, got {initial_mass}")
        rest = (1 - initial_mass) / max(num_layers - 1, 1)
        logits_L = torch.full((num_layers,), math.log(rest))
        logits_L[initial] = math.log(initial_mass)
        # The weight of a single layer is 1 for any logit: it gets no gradient.
        self.logits_L = nn.Parameter(logits_L, requires_grad=learned and num_layers > 1)

    @property
    def weights_L(self) -> Tensor:  # noqa: N802
        return torch.softmax(self.logits_L, dim=0)

    def forward(self, hidden_LBTD: Tensor) -> Tensor:
        """mixed_BTD: float32 whatever autocast says; a single layer is returned unchanged."""
        if len(hidden_LBTD) != len(self.logits_L):
            raise ValueError(
                f"got {len(hidden_LBTD)} hidden layers for {len(self.logits_L)} layer weights: "
                "read the layers that the mix was made for"
            )
        if len(self.logits_L) == 1:
            return hidden_LBTD[0]
        with torch.autocast(hidden_LBTD.device.type, enabled=False):
            mixed_BTD: Tensor = torch.tensordot(self.weights_L, hidden_LBTD.float(), dims=1)
            return mixed_BTD
