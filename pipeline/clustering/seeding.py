"""Where k-means starts: greedy k-means++ on a sample, then local search."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from pipeline.clustering.assignment import FramesError, require_finite
from pipeline.clustering.tiles import tile_rows

# Seeding uses this many frames for each unit, and at least SEEDED_FRAMES. It compares all of them with
# a few candidates for each unit, so its time is proportional to their number times K.
FRAMES_PER_UNIT = 32
SEEDED_FRAMES = 1 << 14
# With more dimensions than this, distances are measured in the principal ones alone.
PRINCIPAL_DIMENSIONS = 256


@torch.no_grad()
def initialise(
    sample_ND: Tensor, num_units: int, seed: int, weights_N: Tensor | None = None
) -> Tensor:
    """`num_units` distinct frames of the sample as centroids_KD float32.

    Greedy k-means++ (Arthur and Vassilvitskii, SODA 2007, with 2 + floor(log K) candidates a
    step, of which the one that leaves the least inertia is taken), then K / 2 steps of local
    search (Lattanzi and Sohler, ICML 2019): where clusters lie apart, k-means++ alone leaves some
    with two centroids and others with none, and Lloyd's passes cannot fix that. Of a large sample
    only some frames are used; the result of a small one does not depend on the order of its frames.

    Args:
        sample_ND: of any floating dtype.
        num_units: K.
        seed: of everything that is drawn.
        weights_N: positive; 1 each by default.

    Raises:
        FramesError: a frame is not finite, or fewer than `num_units` frames are distinct.
    """
    require_finite(sample_ND)
    generator = torch.Generator().manual_seed(seed)
    weights_N = sample_ND.new_ones(len(sample_ND)) if weights_N is None else weights_N
    size = max(SEEDED_FRAMES, FRAMES_PER_UNIT * num_units)
    drawn = torch.randperm(len(sample_ND), generator=generator)[:size].to(sample_ND.device)
    rows_UD, weights_U = _distinct(sample_ND[drawn], weights_N[drawn])
    if len(rows_UD) < num_units < len(sample_ND):
        rows_UD, weights_U = _distinct(sample_ND, weights_N)
    if len(rows_UD) < num_units:
        raise FramesError(
            f"{num_units} units need as many distinct frames, but the sample of {len(sample_ND)} "
            f"has {len(rows_UD)}: lower codebook.num_units, or use more speech"
        )
    sample = _Sample.of(rows_UD, weights_U, PRINCIPAL_DIMENSIONS)
    chosen_K = _plus_plus(sample, num_units, generator)
    return rows_UD[_local_search(sample, chosen_K, num_units // 2, generator)]


@torch.no_grad()
def rough_centroids(frames_ND: Tensor, at_most: int, seed: int) -> Tensor:
    """Distinct frames by greedy k-means++ alone, on a few of them: good enough to sample by.

    Returns:
        centroids float32, fewer than `at_most` where fewer of the frames looked at are distinct.
    """
    generator = torch.Generator().manual_seed(seed)
    size = FRAMES_PER_UNIT * at_most
    drawn = torch.randperm(len(frames_ND), generator=generator)[:size].to(frames_ND.device)
    rows_UD, weights_U = _distinct(frames_ND[drawn], frames_ND.new_ones(len(drawn)))
    chosen = _plus_plus(
        _Sample.of(rows_UD, weights_U, rows_UD.shape[1]), min(at_most, len(rows_UD)), generator
    )
    return rows_UD[chosen]


def _distinct(rows_ND: Tensor, weights_N: Tensor) -> tuple[Tensor, Tensor]:
    """Equal frames as one row with the sum of their weights, so that none can be chosen twice."""
    rows_UD, places_N = torch.unique(rows_ND.float(), dim=0, return_inverse=True)
    weights_U = weights_N.new_zeros(len(rows_UD), dtype=torch.float64)
    return rows_UD, weights_U.index_add_(0, places_N, weights_N.double())


@dataclass(frozen=True)
class _Sample:
    """Distinct rows with mean near zero, their squared norms and how much each weighs."""

    rows_UD: Tensor
    norms_U: Tensor
    weights_U: Tensor

    @classmethod
    def of(cls, rows_UD: Tensor, weights_U: Tensor, most: int) -> "_Sample":
        """Centred, since distances are more exact near zero; at most so many principal dimensions.

        Norms are those of all dimensions: what the others add to the distance of two rows is then
        taken for as much as if they were at right angles there, which in many dimensions they are.
        """
        shares_U = (weights_U / weights_U.sum().clamp(min=1e-300)).float()
        centred_UD = rows_UD - shares_U @ rows_UD
        norms_U = centred_UD.square().sum(dim=1)
        if rows_UD.shape[1] > most:
            covariance_DD = centred_UD.T @ (centred_UD * shares_U[:, None])
            principal_DP = torch.linalg.eigh(covariance_DD).eigenvectors[:, -most:]
            centred_UD = centred_UD @ principal_DP
        return cls(centred_UD, norms_U, weights_U)

    def squared_distances(self, others: Tensor, which: Tensor | None = None) -> Tensor:
        """From the rows `which` (all of them by default) to the rows `others`."""
        rows = self.rows_UD if which is None else self.rows_UD[which]
        norms = self.norms_U if which is None else self.norms_U[which]
        products = rows @ self.rows_UD[others].T
        return (norms[:, None] - 2 * products + self.norms_U[others]).clamp_(min=0)

    def inertia(self, squared_distances_UC: Tensor) -> Tensor:
        """The weighted sum of each column, float64."""
        return self.weights_U @ squared_distances_UC.double()

    def draw(
        self, squared_distances_U: Tensor, chosen: Tensor, count: int, generator: torch.Generator
    ) -> Tensor:
        """Rows that are not chosen yet, with probabilities in proportion to the inertia at them."""
        shares_U = (squared_distances_U * self.weights_U).index_fill(0, chosen, 0)
        if not shares_U.any():
            # What is left differs from the chosen rows by less than float32 can tell.
            shares_U = self.weights_U.index_fill(0, chosen, 0)
        cumulative_U = shares_U.cumsum(dim=0)
        # Drawn on the CPU, so that every kind of device draws the same.
        points = torch.rand(count, generator=generator, dtype=torch.float64).to(shares_U.device)
        rows = torch.searchsorted(cumulative_U, points * cumulative_U[-1], right=True)
        return rows.clamp_(max=len(shares_U) - 1)


def _num_candidates(num_units: int) -> int:
    return 2 + math.floor(math.log(num_units))


def _plus_plus(sample: _Sample, num_units: int, generator: torch.Generator) -> Tensor:
    """Greedy k-means++: the indices of `num_units` different rows."""
    closest_U = sample.norms_U.new_ones(len(sample.norms_U))
    chosen = torch.empty(0, dtype=torch.int64, device=closest_U.device)
    candidates = sample.draw(closest_U, chosen, 1, generator)
    closest_U = torch.full_like(closest_U, math.inf)
    while True:
        closest_UC = torch.minimum(closest_U[:, None], sample.squared_distances(candidates))
        best = sample.inertia(closest_UC).argmin()
        chosen = torch.cat([chosen, candidates[best, None]])
        closest_U = closest_UC[:, best]
        if len(chosen) == num_units:
            return chosen
        candidates = sample.draw(closest_U, chosen, _num_candidates(num_units), generator)


def _local_search(
    sample: _Sample, chosen_K: Tensor, steps: int, generator: torch.Generator
) -> Tensor:
    """Swap a chosen row for a drawn one where that lowers the inertia.

    Each row knows its two nearest chosen rows: when the nearest goes, it falls to the second.
    """
    chosen_K = chosen_K.clone()
    if steps:
        every_row = torch.arange(len(sample.rows_UD), device=chosen_K.device)
        nearest_U2, owners_U2 = _two_nearest(sample, every_row, chosen_K)
    for _ in range(steps):
        candidates = sample.draw(
            nearest_U2[:, 0], chosen_K, _num_candidates(len(chosen_K)), generator
        )
        distances_UC = sample.squared_distances(candidates)
        kept_UC = torch.minimum(nearest_U2[:, :1], distances_UC)
        lost_UC = torch.minimum(nearest_U2[:, 1:], distances_UC) - kept_UC
        # inertia_KC: with candidate C instead of chosen row K.
        inertia_KC = sample.inertia(kept_UC).repeat(len(chosen_K), 1)
        inertia_KC.index_add_(0, owners_U2[:, 0], lost_UC * sample.weights_U[:, None])
        position, candidate = divmod(int(inertia_KC.argmin()), len(candidates))
        if inertia_KC[position, candidate] >= sample.inertia(nearest_U2[:, :1]):
            continue
        chosen_K[position] = candidates[candidate]
        closer_U = distances_UC[:, candidate] < nearest_U2[:, 1]
        changed = ((owners_U2 == position).any(dim=1) | closer_U).nonzero().flatten()
        nearest_U2[changed], owners_U2[changed] = _two_nearest(sample, changed, chosen_K)
    return chosen_K


def _two_nearest(sample: _Sample, which: Tensor, chosen_K: Tensor) -> tuple[Tensor, Tensor]:
    """Squared distances to the two nearest chosen rows, nearest first, and their positions."""
    nearest = [
        sample.squared_distances(chosen_K, rows).topk(2, dim=1, largest=False)
        for rows in which.split(tile_rows(len(chosen_K), which.device))
    ]
    return torch.cat([part.values for part in nearest]), torch.cat(
        [part.indices for part in nearest]
    )
