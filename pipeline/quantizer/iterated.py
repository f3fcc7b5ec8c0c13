"""Iterated differentiable k-means: centroids settle on the batch before units are chosen."""

import math

import torch
from torch import Tensor

from pipeline.clustering.assignment import require_finite
from pipeline.clustering.logits import Distance
from pipeline.quantizer.dkm import Assignment, DifferentiableKMeans
from pipeline.quantizer.soft_update import soft_update


class IteratedKMeans(DifferentiableKMeans):
    """`DifferentiableKMeans` whose training starts each batch with soft k-means over its frames.

    From the stored centroids, `soft_update` is repeated until ||mu' - mu|| <= tolerance ||mu||
    (Frobenius) or `max_iterations` is reached; units are chosen among the settled centroids, and
    gradients flow back through every iteration. Evaluation takes the nearest stored centroid, so
    that a token does not depend on its batch; the k-means loss keeps the stored centroids near the
    settled ones.

    After Cho, Alizadeh-Vahid, Adya, Rastegari, ICLR 2022, with these differences:

    - They carry settled centroids over to the next batch as state, without a gradient. Here the
      stored centroids are a parameter that the optimizer moves. Once the iterations have converged,
      the result does not depend on where they started, so the ASR loss reaches frames and sigma
      but not the centroids. Before that, gradients may grow, above all if frames have no clusters:
      keep `max_iterations` small.
    - Their softmax is of the Euclidean distance over a temperature, which is `distance="euclidean"`
      here; by default it is of the square.
    - Their layer returns A mu, the compressed weights; here `assignment` decides what is embedded.

    A batch should have many more valid frames than units, since each unit moves to the mean of its
    frames. Each worker settles on the frames of each of its calls. And for squared distances sigma^2
    must be well above 1 / (2 lambda), lambda being the frames' largest variance along any line: below it all units
    settle on the mean of all frames (Rose, Gurewitz, Fox: "Statistical mechanics and phase
    transitions in clustering", 1990).

    Args:
        max_iterations: at least 1.
        tolerance: of the last move; with 0, iterations stop only when nothing moves.
    """

    def __init__(
        self,
        centroids_KD: Tensor,
        sigma_squared: float,
        sigma_learned: bool,  # noqa: FBT001
        mean_squared_distance: float,
        *,
        distance: Distance = "squared",
        assignment: Assignment = "sampled",
        max_iterations: int = 5,
        tolerance: float = 1e-4,
    ) -> None:
        super().__init__(
            centroids_KD,
            sigma_squared,
            sigma_learned,
            mean_squared_distance,
            distance=distance,
            assignment=assignment,
        )
        if max_iterations < 1:
            raise ValueError(f"max_iterations must be at least 1, got {max_iterations}")
        if not (tolerance >= 0 and math.isfinite(tolerance)):
            raise ValueError(f"tolerance must be finite and not negative, got {tolerance}")
        self.max_iterations = max_iterations
        self.tolerance = tolerance

    def _settled(self, frames_MD: Tensor, valid_N: Tensor) -> Tensor:
        centroids_KD: Tensor = self.centroids_KD
        if not self.training:
            return centroids_KD
        for _ in range(self.max_iterations):
            before_KD = centroids_KD
            centroids_KD = soft_update(
                frames_MD, valid_N, before_KD, self.sigma_squared, self.distance
            )
            move = _relative_move(before_KD, centroids_KD)
            if not math.isfinite(move):
                # One frame that is not finite spoils every centroid: report how many there are.
                require_finite(frames_MD[valid_N])
            if move <= self.tolerance:
                break
        return centroids_KD


@torch.no_grad()
def _relative_move(before_KD: Tensor, after_KD: Tensor) -> float:
    """||after - before|| / ||before||, or 0 where nothing moved."""
    move, size = (after_KD - before_KD).norm(), before_KD.norm()
    return float(move / size.clamp(min=torch.finfo(size.dtype).tiny))
