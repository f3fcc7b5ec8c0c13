from functools import partial, reduce
from operator import add

import numpy as np
import pytest
import torch
from reference import kmeans as reference
from sklearn.cluster import KMeans

from pipeline.clustering.kmeans import fit_sample, iterate, iterate_batches, partial_sums, update
from pipeline.clustering.seeding import initialise


def normal(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def clustered(seed, num_frames=3000, dim=16, num_clusters=40):
    chance = np.random.default_rng(seed)
    means = chance.normal(size=(num_clusters, dim)) * 3
    frames = means[chance.integers(num_clusters, size=num_frames)]
    return torch.from_numpy(frames + chance.normal(size=frames.shape)).float()


def unclustered(seed):
    return normal(3000, 16, seed=seed)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("data", [clustered, unclustered])
def test_inertia_is_at_most_one_percent_above_the_best_of_ten_of_scikit_learn(data, seed):
    """Ten starts, of which scikit-learn keeps the best, against one of ours."""
    frames = data(seed)
    peer = KMeans(40, n_init=10, random_state=seed).fit(frames.numpy())
    fit = fit_sample(frames, 40, seed, max_passes=100, tolerance=1e-5)
    assert fit.sums.inertia <= 1.01 * peer.inertia_
    measured = partial_sums(frames, fit.centroids_KD).inertia
    assert measured == pytest.approx(fit.sums.inertia, rel=1e-9)


@pytest.mark.parametrize(
    ("num_frames", "num_units", "dim"), [(80, 5, 4), (30, 1, 3), (40, 4, 1), (1, 2, 2)]
)
def test_a_pass_is_the_naive_one(num_frames, num_units, dim):
    frames, centroids = normal(num_frames, dim), normal(num_units, dim, seed=1)
    found = partial_sums(frames, centroids)
    sums, counts, inertia, means = reference.step(frames.tolist(), centroids.tolist())
    assert found.sums_KD.dtype == torch.float64
    torch.testing.assert_close(found.sums_KD, torch.tensor(sums, dtype=torch.float64))
    assert found.weights_K.tolist() == counts
    assert found.inertia == pytest.approx(inertia, rel=1e-5)
    assert found.weight == num_frames
    assert found.mean_squared_distance == pytest.approx(inertia / num_frames, rel=1e-5)
    for mean, centroid in zip(means, update(centroids, found).tolist(), strict=True):
        if mean is not None:
            assert centroid == pytest.approx(mean, rel=1e-5)


def test_parts_add_up_to_the_whole():
    frames, centroids = normal(500, 6), normal(7, 6, seed=1)
    whole = partial_sums(frames, centroids)
    parts = [partial_sums(part, centroids) for part in frames.split([3, 200, 0, 290, 7])]
    merged = reduce(add, parts)
    torch.testing.assert_close(merged.sums_KD, whole.sums_KD)
    assert torch.equal(merged.weights_K, whole.weights_K)
    assert merged.inertia == pytest.approx(whole.inertia)
    assert merged.weight == 500
    assert torch.equal(merged.farthest_FD, whole.farthest_FD)


def test_the_sums_keep_what_float32_would_lose():
    frames = torch.full((20_000, 1), 1.0001)
    sums = partial_sums(frames, torch.zeros(1, 1)).sums_KD
    assert sums.item() == pytest.approx(20_000 * float(frames[0]), rel=1e-12)


def test_empty_clusters_move_to_the_farthest_distinct_frames():
    frames = torch.tensor([[0.0], [1.0], [9.0], [9.0], [-7.0]])
    centroids = torch.tensor([[0.5], [100.0], [200.0], [300.0], [400.0], [500.0]])
    found = update(centroids, partial_sums(frames, centroids))
    assert found.flatten().tolist() == pytest.approx([2.4, 9.0, -7.0, 0.0, 1.0, 500.0])


def test_frames_on_their_centroids_fill_no_empty_cluster():
    frames = torch.zeros(4, 1)
    centroids = torch.tensor([[0.0], [3.0]])
    assert update(centroids, partial_sums(frames, centroids)).flatten().tolist() == [0.0, 3.0]


def test_passes_fill_empty_clusters_and_stop_once_nothing_moves():
    frames = torch.tensor([[0.0], [0.2], [9.0], [9.2]])
    fit = iterate(torch.tensor([[4.0], [50.0]]), lambda c: partial_sums(frames, c), 50, 1e-6)
    assert fit.centroids_KD.flatten().tolist() == pytest.approx([0.1, 9.1])
    assert fit.num_passes < 6
    assert fit.sums.inertia == pytest.approx(0.04, rel=1e-4)


def test_passes_go_on_while_a_cluster_is_empty():
    """A pass offers 16 places, so 20 empty clusters need two, however lax the tolerance."""
    frames = torch.arange(30.0)[:, None] ** 2
    # Far from all frames, yet so near that no processor's float32 rounding decides an assignment.
    start = torch.cat([torch.zeros(1, 1), torch.full((20, 1), 2e3)])
    fit = iterate(start, lambda c: partial_sums(frames, c), 50, tolerance=1.0)
    assert fit.sums.weights_K.all()
    assert fit.num_passes == 2


def test_passes_never_raise_the_inertia_and_stop_at_the_limit():
    frames, seen = normal(400, 3), []

    def measure(centroids):
        seen.append(partial_sums(frames, centroids))
        return seen[-1]

    fit = iterate(normal(8, 3, seed=1), measure, max_passes=6, tolerance=1e-12)
    inertia = [sums.inertia for sums in seen]
    assert inertia == sorted(inertia, reverse=True)
    assert len(seen) == 7
    assert fit.num_passes == 6
    assert fit.sums is seen[-1]


def test_the_seed_decides():
    frames = unclustered(0)
    first, again, other = (fit_sample(frames, 10, seed, 5, 1e-4).centroids_KD for seed in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_frames_that_are_not_finite_are_left_out_and_counted():
    frames, centroids = normal(10, 2), normal(3, 2, seed=1)
    weights = torch.arange(1.0, 11.0)
    frames[3], frames[7, 1] = torch.nan, -torch.inf
    good = frames.isfinite().all(dim=1)
    found = partial_sums(frames, centroids, weights)
    expected = partial_sums(frames[good], centroids, weights[good])
    assert (found.num_rejected, expected.num_rejected) == (2, 0)
    assert torch.equal(found.sums_KD, expected.sums_KD)
    assert found.inertia == expected.inertia
    assert found.weight == weights[good].sum()
    assert (found + found).num_rejected == 4
    with pytest.raises(ValueError, match="2 of 10 frames hold NaN"):
        fit_sample(frames, 2, 0, 5, 1e-4)


def test_a_weight_is_worth_as_many_copies():
    frames, centroids = normal(40, 3), normal(4, 3, seed=1)
    times = torch.arange(40) % 3 + 1
    weighted = partial_sums(frames, centroids, times.float())
    copied = partial_sums(frames.repeat_interleave(times, dim=0), centroids)
    torch.testing.assert_close(weighted.sums_KD, copied.sums_KD)
    assert torch.equal(weighted.weights_K, copied.weights_K)
    assert weighted.inertia == pytest.approx(copied.inertia)
    torch.testing.assert_close(update(centroids, weighted), update(centroids, copied))


def batches_of(frames, size):
    return lambda: [partial(partial_sums, part) for part in frames.split(size)]


def test_mini_batches_move_the_centroids_to_the_mean_of_all_they_were_given():
    frames, start = normal(90, 3), normal(4, 3, seed=1)
    found = iterate_batches(start, batches_of(frames, 30), max_passes=1, tolerance=1e-4)
    centroids, given = start.double(), [[] for _ in start]
    for batch in frames.double().split(30):
        units = torch.cdist(batch, centroids).argmin(dim=1)
        for frame, unit in zip(batch, units.tolist(), strict=True):
            given[unit].append(frame)
        centroids = torch.stack([torch.stack(frames).mean(dim=0) for frames in given])
    torch.testing.assert_close(found.centroids_KD.double(), centroids, rtol=1e-5, atol=1e-6)
    assert found.sums.weight == 90


def test_mini_batches_fill_units_that_a_whole_pass_leaves_empty():
    frames = torch.tensor([[0.0], [0.2], [9.0], [9.2]])
    # The unit at 12 is empty in the first batch only, the one at 50 in both.
    start = torch.tensor([[0.0], [12.0], [50.0]])
    found = iterate_batches(start, batches_of(frames, 2), max_passes=50, tolerance=1e-4)
    assert found.sums.weights_K.tolist() == [2, 1, 1]
    assert sorted(found.centroids_KD[1:].flatten().tolist()) == pytest.approx([9.0, 9.2], abs=0.02)


def test_mini_batches_go_on_while_a_cluster_is_empty():
    """As Lloyd's passes do: one offers 16 places, so 20 empty clusters need two."""
    frames = torch.arange(30.0)[:, None] ** 2
    start = torch.cat([torch.zeros(1, 1), torch.full((20, 1), 2e3)])
    found = iterate_batches(start, batches_of(frames, 30), max_passes=50, tolerance=1.0)
    assert found.sums.weights_K.all()
    assert found.num_passes == 3


def test_mini_batches_come_near_lloyd_and_stop_once_settled():
    frames = clustered(0)
    start = initialise(frames, 40, 0)
    lloyd = iterate(start, partial(partial_sums, frames), 50, 1e-5)
    found = iterate_batches(start, batches_of(frames, 200), max_passes=50, tolerance=1e-4)
    assert partial_sums(frames, found.centroids_KD).inertia <= 1.01 * lloyd.sums.inertia
    assert 1 < found.num_passes < 50
