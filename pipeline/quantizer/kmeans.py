"""Ordinary k-means in parts: passes whose partial sums can be merged, on a start from a sample.

A pass over data of any size is `partial_sums` on each part, the results added up in one fixed
order (then the outcome does not depend on how many workers did it), and `update`.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from pipeline.quantizer.assignment import nearest
from pipeline.quantizer.seeding import initialise

# Frames that a part offers as new places for empty clusters; more empty ones wait a pass.
FARTHEST_FRAMES = 16


@dataclass(frozen=True)
class PartialSums:
    """What a pass over some frames leaves.

    Attributes:
        sums_KD: the sum of each cluster's frames, float64.
        counts_K: how many they are, int64.
        inertia: the sum of squared distances to the nearest centroid.
        num_frames: of all clusters.
        farthest_FD: the few frames farthest from their centroid, farthest first.
        farthest_squared_distances_F: how far, float32.
    """

    sums_KD: Tensor
    counts_K: Tensor
    inertia: float
    num_frames: int
    farthest_FD: Tensor
    farthest_squared_distances_F: Tensor

    def __add__(self, other: "PartialSums") -> "PartialSums":
        """Both parts as one; equally far frames stay in the order of the addition."""
        distances_F = torch.cat(
            [self.farthest_squared_distances_F, other.farthest_squared_distances_F]
        )
        kept = _farthest(distances_F)
        return PartialSums(
            sums_KD=self.sums_KD + other.sums_KD,
            counts_K=self.counts_K + other.counts_K,
            inertia=self.inertia + other.inertia,
            num_frames=self.num_frames + other.num_frames,
            farthest_FD=torch.cat([self.farthest_FD, other.farthest_FD])[kept],
            farthest_squared_distances_F=distances_F[kept],
        )

    @property
    def mean_squared_distance(self) -> float:
        """Of a frame to its nearest centroid; 0 without frames."""
        return self.inertia / max(self.num_frames, 1)


@dataclass(frozen=True)
class Fit:
    """A fitted codebook and the sums of a last pass that measured it."""

    centroids_KD: Tensor
    sums: PartialSums
    num_passes: int


def partial_sums(frames_ND: Tensor, centroids_KD: Tensor) -> PartialSums:
    """Assign the frames and sum them up by cluster.

    Raises:
        ValueError: the shapes do not fit, or a frame is not finite.
    """
    units_N, distances_N = nearest(frames_ND, centroids_KD)
    sums_KD = torch.zeros(centroids_KD.shape, dtype=torch.float64, device=frames_ND.device)
    # In pieces: a float64 copy of all frames would triple what the caller holds.
    for frames, units in zip(frames_ND.split(8192), units_N.split(8192), strict=True):
        sums_KD.index_add_(0, units, frames.double())
    kept = _farthest(distances_N)
    return PartialSums(
        sums_KD=sums_KD,
        counts_K=torch.bincount(units_N, minlength=len(centroids_KD)),
        inertia=float(distances_N.double().sum()),
        num_frames=len(frames_ND),
        farthest_FD=frames_ND[kept].float(),
        farthest_squared_distances_F=distances_N[kept],
    )


def update(centroids_KD: Tensor, sums: PartialSums) -> Tensor:
    """Each cluster's mean, centroids_KD float32.

    An empty cluster moves to the frame farthest from its centroid, the next one to the next
    farthest distinct frame; where these run out it stays where it was.
    """
    means_KD = (sums.sums_KD / sums.counts_K.clamp(min=1)[:, None]).float()
    empty_K = sums.counts_K == 0
    updated_KD = torch.where(empty_K[:, None], centroids_KD.float(), means_KD)
    places = _distinct(sums.farthest_FD[sums.farthest_squared_distances_F > 0])
    for cluster, place in zip(empty_K.nonzero().flatten().tolist(), places, strict=False):
        updated_KD[cluster] = place
    return updated_KD


def iterate(
    centroids_KD: Tensor,
    measure: Callable[[Tensor], PartialSums],
    max_passes: int,
    tolerance: float,
) -> Fit:
    """Lloyd's passes until the inertia falls by less than `tolerance` of itself.

    Args:
        centroids_KD: where to start.
        measure: one pass over all frames for given centroids, wherever they are kept.
        max_passes: how many passes at most, beside the one that measures the start.
        tolerance: relative; while a cluster is empty, passes go on regardless.
    """
    centroids_KD = centroids_KD.float()
    sums = measure(centroids_KD)
    for num_passes in range(1, max_passes + 1):
        before = sums.inertia
        centroids_KD = update(centroids_KD, sums)
        sums = measure(centroids_KD)
        if before - sums.inertia <= tolerance * before and bool(sums.counts_K.all()):
            return Fit(centroids_KD, sums, num_passes)
    return Fit(centroids_KD, sums, max_passes)


def fit_sample(
    sample_ND: Tensor, num_units: int, seed: int, max_passes: int, tolerance: float
) -> Fit:
    """k-means on frames in memory: k-means++ with local search, then Lloyd's passes.

    Raises:
        ValueError: a frame is not finite, or fewer than `num_units` frames are distinct.
    """
    start_KD = initialise(sample_ND, num_units, seed)
    return iterate(
        start_KD, lambda centroids: partial_sums(sample_ND, centroids), max_passes, tolerance
    )


def _farthest(squared_distances_N: Tensor) -> Tensor:
    order = squared_distances_N.argsort(descending=True, stable=True)
    return order[:FARTHEST_FRAMES]


def _distinct(frames_FD: Tensor) -> list[Tensor]:
    places: list[Tensor] = []
    for frame in frames_FD:
        if not any(torch.equal(frame, place) for place in places):
            places.append(frame)
    return places
