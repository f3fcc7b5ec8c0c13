"""The logits of p(j | s), made from one matrix product."""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from pipeline.clustering.near_pairs import NearPairs

# What p(j | s) = softmax_j(-sigma^2 d(s, mu_j)) compares: "euclidean" is d = ||s - mu||, as in the
# recipe of the method's authors, "squared" its square.
Distance = Literal["euclidean", "squared"]


@dataclass(frozen=True)
class Logits:
    """-sigma^2 d(s, mu), from products_NK = (frames - origin) @ weight^T + bias.

    Squared: the products are the logits, up to sigma^2 ||s||^2, which is constant for each frame and
    changes no softmax. Euclidean: the products are 2 s mu - ||mu||^2, and the logits are
    -sharpness sqrt(||s||^2 - products).

    Gradients reach all but `origin_D`, which is where float32 is most exact.

    Attributes:
        sharpness: sigma^2, a scalar, for Euclidean distances; None for squared ones.
    """

    weight_KD: Tensor
    bias_K: Tensor
    origin_D: Tensor
    sharpness: Tensor | None = None

    @classmethod
    def of(
        cls,
        centroids_KD: Tensor,
        sigma_squared: Tensor | float,
        distance: Distance = "squared",
    ) -> "Logits":
        """Of p = softmax(-sigma^2 d(s, mu)), differentiable in centroids and sigma^2.

        Distances do not change when frames and centroids move together, so both are moved to the
        centroids' mean: the numbers to subtract are then small, and float32 loses less.
        """
        centroids_KD = centroids_KD.float()
        origin_D = centroids_KD.detach().mean(dim=0)
        centred_KD = centroids_KD - origin_D
        squared_norms_K = centred_KD.square().sum(dim=1)
        if distance == "squared":
            bias_K = -sigma_squared * squared_norms_K
            return cls(2 * sigma_squared * centred_KD, bias_K, origin_D)
        sharpness = torch.as_tensor(sigma_squared, dtype=torch.float32, device=origin_D.device)
        return cls(2 * centred_KD, -squared_norms_K, origin_D, sharpness)

    def write(self, moved_ND: Tensor, out_NK: Tensor, distances_NK: Tensor | None = None) -> Tensor:
        """Write the logits of frames (float32, already moved by the origin) into `out_NK`.

        Euclidean distances are left in `distances_NK`, if it is there.
        """
        if self.sharpness is None:
            return self._write_products(moved_ND, out_NK)
        if distances_NK is None:
            distances_NK = out_NK
        self._write_distances(moved_ND, distances_NK)
        return torch.mul(distances_NK, -self.sharpness, out=out_NK)

    def _write_products(self, moved_ND: Tensor, out_NK: Tensor) -> Tensor:
        return torch.addmm(self.bias_K, moved_ND, self.weight_KD.T, out=out_NK)

    def _write_distances(self, moved_ND: Tensor, out_NK: Tensor) -> None:
        lengths_N = torch.linalg.vector_norm(moved_ND, dim=1)
        self._write_products(moved_ND, out_NK).neg_().add_(lengths_N.square()[:, None])
        out_NK.clamp_(min=0).sqrt_()
        near = NearPairs.among(out_NK, lengths_N)
        for span, difference_SD in near.differences(moved_ND, self.weight_KD):
            distances_S = torch.linalg.vector_norm(difference_SD, dim=1)
            out_NK[near.frames_P[span], near.units_P[span]] = distances_S
