"""The logits of p(j | s) as one matrix product."""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Logits:
    """logits_NK = (frames - origin) @ weight^T + bias: -sigma^2 ||s - mu||^2 up to a constant.

    The constant of each frame, sigma^2 ||s||^2, changes no softmax. Gradients reach `weight_KD`
    and `bias_K`; `origin_D` is where float32 is most exact, and takes none.
    """

    weight_KD: Tensor
    bias_K: Tensor
    origin_D: Tensor

    @classmethod
    def of(cls, centroids_KD: Tensor, sigma_squared: Tensor | float) -> "Logits":
        """Of p = softmax(-sigma^2 ||s - mu||^2), differentiable in both arguments.

        Distances do not change when frames and centroids move together, so both are moved to the
        centroids' mean: the numbers to subtract are then small, and float32 loses less.
        """
        centroids_KD = centroids_KD.float()
        origin_D = centroids_KD.detach().mean(dim=0)
        centred_KD = centroids_KD - origin_D
        bias_K = -sigma_squared * centred_KD.square().sum(dim=1)
        return cls(2 * sigma_squared * centred_KD, bias_K, origin_D)

    def write(self, moved_ND: Tensor, out_NK: Tensor) -> Tensor:
        """Write the logits of frames (float32, already moved by the origin) into `out_NK`."""
        return torch.addmm(self.bias_K, moved_ND, self.weight_KD.T, out=out_NK)
