import pytest
import torch

from pipeline.quantizer import seeding
from pipeline.quantizer.seeding import initialise


def normal(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def rows(centroids):
    return sorted(map(tuple, centroids.tolist()))


@pytest.mark.parametrize("seed", range(5))
def test_every_separate_cluster_gets_one_centroid(seed):
    chance = torch.Generator().manual_seed(seed)
    means = 10 * torch.randn((30, 8), generator=chance)
    labels = torch.arange(1200) % 30
    sample = means[labels] + 0.1 * torch.randn((1200, 8), generator=chance)
    found = torch.cdist(initialise(sample, 30, seed), means).argmin(dim=1)
    assert sorted(found.tolist()) == list(range(30))


def test_the_best_of_several_candidates_is_taken(monkeypatch):
    """Before any local search, greedy steps leave fewer of 40 clusters out."""

    def clusters_found(num_candidates):
        monkeypatch.setattr(seeding, "_num_candidates", lambda *_: num_candidates)
        monkeypatch.setattr(seeding, "_local_search", lambda *given: given[1])
        means = 3 * normal(40, 8)
        sample = means[torch.arange(800) % 40] + 0.5 * normal(800, 8, seed=1)
        starts = [initialise(sample, 40, seed) for seed in range(10)]
        return sum(torch.cdist(start, means).argmin(dim=1).unique().numel() for start in starts)

    assert clusters_found(8) > clusters_found(1) + 20


@pytest.mark.parametrize(
    ("num_frames", "num_units", "dim"), [(50, 1, 3), (50, 2, 1), (1, 1, 4), (40, 13, 2)]
)
def test_centroids_are_distinct_frames(num_frames, num_units, dim):
    sample = normal(num_frames, dim)
    found = rows(initialise(sample, num_units, 0))
    assert len(set(found)) == num_units
    assert set(found) <= set(rows(sample))


def test_as_many_units_as_distinct_frames_takes_them_all():
    distinct = normal(9, 2)
    sample = distinct[torch.arange(90) % 9]
    assert rows(initialise(sample, 9, 0)) == rows(distinct)


def test_rounding_makes_no_frame_chosen_twice():
    """Around far heaps float32 gives a chosen frame a distance to itself, hence a chance."""
    heaps = torch.where(torch.arange(40)[:, None] < 20, 1000.0, -1000.0)
    sample = heaps + 1e-3 * normal(40, 32)
    assert rows(initialise(sample, 40, 0)) == rows(sample)


def test_frames_closer_than_float32_can_measure_are_still_distinct():
    sample = torch.tensor([[1000.0], [1000.0001], [-1000.0], [-1000.0001]]).repeat(5, 1)
    assert len(set(rows(initialise(sample, 4, 0)))) == 4


def test_the_order_of_the_sample_does_not_matter():
    sample = normal(300, 4)
    shuffled = sample[torch.randperm(300, generator=torch.Generator().manual_seed(5))]
    assert torch.equal(initialise(sample, 12, 3), initialise(shuffled, 12, 3))


def test_frequent_frames_weigh_more():
    """One unit for a heap of 999 equal frames and one stray: almost always the heap."""
    sample = torch.cat([torch.zeros(999, 1), torch.ones(1, 1)])
    assert initialise(sample, 1, seed=0).item() == 0


def test_fewer_distinct_frames_than_units_are_refused():
    with pytest.raises(ValueError, match=r"5 units need as many distinct frames.*of 40 has 4"):
        initialise(normal(4, 2).repeat(10, 1), 5, 0)
    with pytest.raises(ValueError, match="has 0"):
        initialise(torch.zeros(0, 2), 1, 0)
