"""A coreset for k-means: a few weighted frames that represent many, and that can be merged.

The weighted inertia of a coreset estimates that of all its frames, for centroids that were chosen
without it. The union of the shards' coresets is a coreset of all shards, to which new shards add
theirs, so a fit can do with it. Two things must not be expected of it:

- Centroids that were fitted to a coreset lie nearer to its frames than to others. Their inertia on
  it is too small, the more so the fewer frames a unit has; the true one takes a pass over all.
- The sensitivities come from `ROUGH_UNITS` centroids, far fewer than a codebook has, and the size
  is what the config says: the bounds of the papers hold for neither. Frames that are rare and far
  from all others are kept better than in a uniform sample; on speech the two differ little.

Sensitivity sampling: Feldman and Langberg, "A unified framework for approximating and clustering
data", STOC 2011; measured beside its rivals by Henzinger, Saulpic and Sidl, "Experimental
evaluation of fully dynamic k-means via coresets", ALENEX 2024.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from pipeline.clustering.assignment import FramesError, nearest
from pipeline.clustering.seeding import rough_centroids

ROUGH_UNITS = 64


@dataclass(frozen=True)
class Coreset:
    """Frames, and how many frames each represents.

    Attributes:
        frames_MD: float16, as stored features are.
        weights_M: float32; they add up to the number of finite frames that it was made of.
        num_rejected: how many others held NaN or infinity.
    """

    frames_MD: Tensor
    weights_M: Tensor
    num_rejected: int

    @property
    def is_unweighted(self) -> bool:
        """Whether each frame represents itself alone."""
        return bool((self.weights_M == 1).all())


def union(parts: Sequence[Coreset]) -> Coreset:
    """The coreset of all frames of the parts, of which there is at least one.

    Raises:
        FramesError: their frames have different dimensions.
    """
    dims = {part.frames_MD.shape[1] for part in parts}
    if len(dims) > 1:
        raise FramesError(
            f"frames of one layer have {sorted(dims)} dimensions in different shards: were all of "
            "them extracted with one SSL model?"
        )
    return Coreset(
        torch.cat([part.frames_MD for part in parts]),
        torch.cat([part.weights_M for part in parts]),
        sum(part.num_rejected for part in parts),
    )


def every_frame(frames_ND: Tensor) -> Coreset:
    """All frames that are finite in float16, each with weight 1."""
    halves_ND = frames_ND.half()
    kept_ND = halves_ND[torch.isfinite(halves_ND.float().sum(dim=1))]
    ones_N = torch.ones(len(kept_ND), device=frames_ND.device)
    return Coreset(kept_ND, ones_N, len(frames_ND) - len(kept_ND))


@torch.no_grad()
def condense(coreset: Coreset, size: int, seed: int) -> Coreset:
    """At most `size` weighted frames for those of `coreset`; one that is no larger stays as it is.

    A frame is drawn with a probability in proportion to its sensitivity as to a few rough
    centroids: half its share of the inertia, half its share of its cluster's weight. The draw is
    systematic along the clusters, so that each gets its share, and within each cluster the weights
    are scaled to add up to the cluster's.
    """
    if len(coreset.frames_MD) <= size:
        return coreset
    weights_N = coreset.weights_M.double()
    rough_RD = rough_centroids(coreset.frames_MD, ROUGH_UNITS, seed)
    units_N, distances_N = nearest(coreset.frames_MD, rough_RD)
    order = units_N.argsort(stable=True)
    units_N, weights_N, distances_N = units_N[order], weights_N[order], distances_N[order]
    expected_N = size * _sensitivities(units_N, weights_N, distances_N.double(), len(rough_RD))
    generator = torch.Generator().manual_seed(seed)
    offset = torch.rand(1, generator=generator, dtype=torch.float64).to(expected_N.device)
    # Frame n is drawn as often as a whole number + offset falls on its stretch of the line.
    ends_N = (expected_N.cumsum(dim=0) - offset).ceil()
    ends_N[-1] = size
    times_N = ends_N.diff(prepend=ends_N.new_zeros(1))
    drawn = times_N.nonzero().squeeze(1)
    new_M = weights_N[drawn] * times_N[drawn] / expected_N[drawn]
    return Coreset(
        coreset.frames_MD[order[drawn]],
        _calibrated(new_M, units_N[drawn], units_N, weights_N).float(),
        coreset.num_rejected,
    )


def _sensitivities(units_N: Tensor, weights_N: Tensor, distances_N: Tensor, num: int) -> Tensor:
    """Half by inertia, half by weight within the cluster; they add up to 1."""
    inertia_N = weights_N * distances_N
    cluster_weights = torch.bincount(units_N, weights_N, minlength=num)
    occupied = (cluster_weights > 0).sum()
    by_weight_N = weights_N / (occupied * cluster_weights[units_N])
    total = inertia_N.sum()
    return by_weight_N if total == 0 else 0.5 * (inertia_N / total + by_weight_N)


def _calibrated(new_M: Tensor, units_M: Tensor, units_N: Tensor, weights_N: Tensor) -> Tensor:
    """`new_M` scaled by cluster, so that each keeps its weight, and then all together.

    A cluster of which nothing was drawn is represented by the others.
    """
    num = int(units_N.max()) + 1
    due = torch.bincount(units_N, weights_N, minlength=num)
    drawn = torch.bincount(units_M, new_M, minlength=num)
    scaled_M = new_M * (due / drawn.clamp(min=1e-300))[units_M]
    return scaled_M * (weights_N.sum() / scaled_M.sum())
