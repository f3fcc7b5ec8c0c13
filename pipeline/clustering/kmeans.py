"""Ordinary k-means in parts: passes whose partial sums are merged, and a start from a sample.

A pass over data of any size is `partial_sums` on each part, the sum of the results in a fixed order
(so that it does not depend on the number of workers), and `update`.
"""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import reduce
from operator import add

import torch
from torch import Tensor

from pipeline.clustering.assignment import nearest
from pipeline.clustering.seeding import initialise
from pipeline.clustering.tiles import tiles

# Frames that a part offers to empty clusters; further empty clusters wait for the next pass.
FARTHEST_FRAMES = 16


@dataclass(frozen=True)
class PartialSums:
    """The result of a pass over some frames.

    Attributes:
        sums_KD: the weighted sum of each cluster's frames, float64.
        weights_K: the weight of each cluster's frames (how many, where each weighs 1), float64.
        inertia: the weighted sum of squared distances to the nearest centroid.
        num_rejected: how many frames held NaN or infinity; they count nowhere else.
        farthest_FD: the few frames farthest from their centroid, farthest first.
        farthest_squared_distances_F: how far, float32.
    """

    sums_KD: Tensor
    weights_K: Tensor
    inertia: float
    num_rejected: int
    farthest_FD: Tensor
    farthest_squared_distances_F: Tensor

    def __add__(self, other: "PartialSums") -> "PartialSums":
        """The sums over both parts; equally far frames stay in the order of the addition."""
        distances_F = torch.cat(
            [self.farthest_squared_distances_F, other.farthest_squared_distances_F]
        )
        kept = _farthest(distances_F)
        return PartialSums(
            sums_KD=self.sums_KD + other.sums_KD,
            weights_K=self.weights_K + other.weights_K,
            inertia=self.inertia + other.inertia,
            num_rejected=self.num_rejected + other.num_rejected,
            farthest_FD=torch.cat([self.farthest_FD, other.farthest_FD])[kept],
            farthest_squared_distances_F=distances_F[kept],
        )

    @property
    def weight(self) -> float:
        """Of all frames: how many there are, where each weighs 1."""
        return float(self.weights_K.sum())

    @property
    def mean_squared_distance(self) -> float:
        """Of a frame to its nearest centroid; 0 without frames."""
        return self.inertia / self.weight if self.weight else 0.0


@dataclass(frozen=True)
class Fit:
    """A fitted codebook and the sums of a last pass that measured it."""

    centroids_KD: Tensor
    sums: PartialSums
    num_passes: int


def partial_sums(
    frames_ND: Tensor, centroids_KD: Tensor, weights_N: Tensor | None = None
) -> PartialSums:
    """Assign the frames and sum them up by cluster; frames that are not finite are left out.

    Args:
        frames_ND: of any floating dtype.
        centroids_KD: on the same device.
        weights_N: positive; 1 each by default.

    Raises:
        FramesError: the shapes do not fit.
    """
    units_N, distances_N = nearest(frames_ND, centroids_KD)
    num_frames = len(frames_ND)
    finite_N = torch.isfinite(distances_N)
    if not finite_N.all():
        frames_ND, units_N, distances_N = (
            values[finite_N] for values in (frames_ND, units_N, distances_N)
        )
        weights_N = None if weights_N is None else weights_N[finite_N]
    wide_N = torch.ones_like(distances_N) if weights_N is None else weights_N
    wide_N = wide_N.double()
    sums_KD = torch.zeros(centroids_KD.shape, dtype=torch.float64, device=frames_ND.device)
    for span in tiles(len(frames_ND), frames_ND.shape[1], frames_ND.device):
        frames = frames_ND[span].double()
        if weights_N is not None:
            frames.mul_(wide_N[span, None])
        sums_KD.index_add_(0, units_N[span], frames)
    kept = _farthest(distances_N)
    return PartialSums(
        sums_KD=sums_KD,
        weights_K=torch.bincount(units_N, wide_N, minlength=len(centroids_KD)),
        inertia=float(wide_N @ distances_N.double()),
        num_rejected=num_frames - len(frames_ND),
        farthest_FD=frames_ND[kept].float(),
        farthest_squared_distances_F=distances_N[kept],
    )


def update(centroids_KD: Tensor, sums: PartialSums) -> Tensor:
    """Each cluster's mean, centroids_KD float32; empty clusters move as `reseeded` says."""
    empty_K = sums.weights_K == 0
    means_KD = (sums.sums_KD / sums.weights_K.masked_fill(empty_K, 1)[:, None]).float()
    return reseeded(torch.where(empty_K[:, None], centroids_KD.float(), means_KD), sums)


def reseeded(centroids_KD: Tensor, sums: PartialSums) -> Tensor:
    """The centroids, those of empty clusters on frames that are far from all.

    An empty cluster moves to the frame farthest from its centroid, the next one to the next
    farthest distinct frame; where these run out it stays where it was.
    """
    moved_KD = centroids_KD.clone()
    farthest = _distinct(sums.farthest_FD[sums.farthest_squared_distances_F > 0])
    empty = (sums.weights_K == 0).nonzero().flatten().tolist()
    for cluster, frame in zip(empty, farthest, strict=False):
        moved_KD[cluster] = frame
    return moved_KD


def iterate(
    centroids_KD: Tensor,
    measure: Callable[[Tensor], PartialSums],
    max_passes: int,
    tolerance: float,
) -> Fit:
    """Lloyd's passes until the inertia falls by less than `tolerance` of itself.

    Args:
        centroids_KD: the initial centroids.
        measure: one pass over all frames for given centroids, wherever the frames are.
        max_passes: how many passes at most, beside the one that measures the start.
        tolerance: relative; while a cluster is empty, passes go on regardless.
    """
    centroids_KD = centroids_KD.float()
    sums = measure(centroids_KD)
    for num_passes in range(1, max_passes + 1):
        before = sums.inertia
        centroids_KD = update(centroids_KD, sums)
        sums = measure(centroids_KD)
        if before - sums.inertia <= tolerance * before and bool(sums.weights_K.all()):
            return Fit(centroids_KD, sums, num_passes)
    return Fit(centroids_KD, sums, max_passes)


def iterate_batches(
    centroids_KD: Tensor,
    batches: Callable[[], Iterable[Callable[[Tensor], PartialSums]]],
    max_passes: int,
    tolerance: float,
) -> Fit:
    """Mini-batch k-means (Sculley, WWW 2010): the centroids move after every batch.

    A centroid is the mean of all frames that it was given, so a batch moves it less the more it
    has seen. A cluster that a whole pass leaves empty starts afresh, as `reseeded` says. `Fit.sums`
    are those of the last pass, each batch measured with the centroids before it.

    Args:
        centroids_KD: where to start.
        batches: one pass: its batches in turn, each measured for given centroids.
        max_passes: how many passes at most.
        tolerance: passes end when the inertia falls by less than this share of itself; while a
            cluster is empty, they go on regardless.
    """
    centroids_KD = centroids_KD.float()
    seen_K = torch.zeros(len(centroids_KD), dtype=torch.float64, device=centroids_KD.device)
    before = math.inf
    for num_passes in range(1, max_passes + 1):
        parts = []
        for measure in batches():
            sums = measure(centroids_KD)
            seen_K = seen_K + sums.weights_K
            moved_KD = sums.sums_KD - sums.weights_K[:, None] * centroids_KD
            centroids_KD = (centroids_KD + moved_KD / seen_K.clamp(min=1)[:, None]).float()
            parts.append(sums)
        sums = reduce(add, parts)
        empty_K = sums.weights_K == 0
        centroids_KD = reseeded(centroids_KD, sums)
        seen_K = seen_K.masked_fill(empty_K, 0)
        settled = num_passes > 1 and before - sums.inertia <= tolerance * before
        if settled and not empty_K.any():
            break
        before = sums.inertia
    return Fit(centroids_KD, sums, num_passes)


def fit_sample(
    sample_ND: Tensor, num_units: int, seed: int, max_passes: int, tolerance: float
) -> Fit:
    """k-means on frames in memory: k-means++ with local search, then Lloyd's passes.

    Raises:
        FramesError: a frame is not finite, or fewer than `num_units` frames are distinct.
    """
    start_KD = initialise(sample_ND, num_units, seed)
    return iterate(
        start_KD, lambda centroids: partial_sums(sample_ND, centroids), max_passes, tolerance
    )


def _farthest(squared_distances_N: Tensor) -> Tensor:
    order = squared_distances_N.argsort(descending=True, stable=True)
    return order[:FARTHEST_FRAMES]


def _distinct(frames_FD: Tensor) -> list[Tensor]:
    distinct: list[Tensor] = []
    for frame in frames_FD:
        if not any(torch.equal(frame, other) for other in distinct):
            distinct.append(frame)
    return distinct
