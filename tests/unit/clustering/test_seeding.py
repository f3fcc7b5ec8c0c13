import pytest
import torch

from pipeline.clustering import seeding
from pipeline.clustering.seeding import initialise


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


def test_a_weight_is_worth_as_many_copies():
    """One unit is drawn in proportion to the weights: four standard errors at 400 seeds."""
    sample = torch.tensor([[0.0], [1.0], [2.0]])
    weights = torch.tensor([1.0, 2.0, 5.0])
    copies = sample.repeat_interleave(weights.long(), dim=0)
    starts = {
        "weighted": [initialise(sample, 1, seed, weights).item() for seed in range(400)],
        "copied": [initialise(copies, 1, seed).item() for seed in range(400)],
    }
    for drawn in starts.values():
        for value, share in ((0, 1 / 8), (1, 2 / 8), (2, 5 / 8)):
            error = 4 * (share * (1 - share) / 400) ** 0.5
            assert drawn.count(value) / 400 == pytest.approx(share, abs=error)


def test_with_weights_the_steps_are_those_on_copies(monkeypatch):
    """Bit for bit, once the draw of which frames to look at is out of the way."""
    sample = normal(60, 3)
    weights = 1 + torch.arange(60) % 4
    copies = sample.repeat_interleave(weights, dim=0)
    monkeypatch.setattr(torch, "randperm", lambda size, **_: torch.arange(size))
    weighted = initialise(sample, 9, 5, weights.float())
    assert torch.equal(weighted, initialise(copies, 9, 5))
    assert not torch.equal(weighted, initialise(sample, 9, 5))


def test_a_heavy_stray_frame_gets_a_unit_and_a_light_one_does_not():
    """Of five frames on a line the last is near the fourth: worth a unit if it weighs enough."""
    sample = torch.tensor([[0.0], [1.0], [2.0], [3.0], [3.5]])
    heavy, light = torch.ones(5), torch.ones(5)
    heavy[4], light[4] = 100, 0.01
    for seed in range(10):
        assert 3.5 in initialise(sample, 4, seed, heavy)
        assert 3.5 not in initialise(sample, 4, seed, light)


@pytest.mark.parametrize("num_units", [20, 290])
def test_in_many_dimensions_every_separate_cluster_gets_one_centroid(num_units):
    """Of 320 dimensions 256 are compared; 290 clusters lie in more than these."""
    means = 3 * normal(num_units, 320, seed=1)
    sample = means[torch.arange(4 * num_units) % num_units] + 0.1 * normal(4 * num_units, 320)
    found = torch.cdist(initialise(sample, num_units, 0), means).argmin(dim=1)
    assert sorted(found.tolist()) == list(range(num_units))


def test_of_a_large_sample_only_some_frames_are_looked_at(monkeypatch):
    monkeypatch.setattr(seeding, "SEEDED_FRAMES", 200)
    monkeypatch.setattr(seeding, "FRAMES_PER_UNIT", 5)
    looked_at = []
    keep = seeding._distinct

    def distinct(rows, weights):
        looked_at.append((len(rows), len(weights)))
        return keep(rows, weights)

    monkeypatch.setattr(seeding, "_distinct", distinct)
    means = 10 * normal(30, 8, seed=1)
    sample = means[torch.arange(3000) % 30] + 0.1 * normal(3000, 8)
    found = torch.cdist(initialise(sample, 30, 0, torch.ones(3000)), means).argmin(dim=1)
    assert sorted(found.tolist()) == list(range(30))
    initialise(sample, 60, 0)
    assert looked_at == [(200, 200), (300, 300)]


def test_where_the_frames_looked_at_are_too_few_distinct_ones_all_are(monkeypatch):
    """Nine frames of ten are silence: of a few frames fewer than K differ, of all of them not."""
    monkeypatch.setattr(seeding, "SEEDED_FRAMES", 20)
    monkeypatch.setattr(seeding, "FRAMES_PER_UNIT", 1)
    sample = normal(1000, 3)
    sample[torch.arange(1000) % 10 > 0] = 0
    found = rows(initialise(sample, 50, 0))
    assert len(set(found)) == 50
    assert set(found) <= set(rows(sample))
    with pytest.raises(ValueError, match=r"102 units.*sample of 1000 has 101"):
        initialise(sample, 102, 0)


@pytest.mark.parametrize("at_most", [1, 5, 64])
def test_rough_centroids_are_distinct_frames_and_no_more_than_there_are(at_most):
    sample = normal(7, 2)[torch.arange(70) % 7]
    found = rows(seeding.rough_centroids(sample.half(), at_most, 0))
    assert len(set(found)) == len(found) == min(at_most, 7)
    assert set(found) <= set(rows(sample.half().float()))
