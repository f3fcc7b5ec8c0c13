"""Few weighted frames have the inertia of all, for centroids that were chosen without them."""

import math

import pytest
import torch
from reference import coreset as reference

from pipeline.clustering.assignment import FramesError
from pipeline.clustering.coreset import ROUGH_UNITS, Coreset, condense, every_frame, union
from pipeline.clustering.kmeans import fit_sample, iterate, partial_sums
from pipeline.clustering.seeding import initialise, rough_centroids

NUM_FRAMES, DIM, SIZE = 20_000, 8, 2000


@pytest.fixture(autouse=True)
def _one_thread():
    """Thousands of small products: where other processes are busy, threads wait for each other."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def normal(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def clustered(shares):
    """Overlapping blobs, the k-th with a share of the frames in proportion to `shares[k]`."""
    means = 3 * normal(len(shares), DIM, seed=1)
    chance = torch.Generator().manual_seed(2)
    labels = torch.tensor(shares).multinomial(NUM_FRAMES, replacement=True, generator=chance)
    return (means[labels] + normal(NUM_FRAMES, DIM, seed=3)).half()


def with_far_heap():
    """Twenty frames so far from all others that without them an inertia means nothing."""
    frames = normal(NUM_FRAMES, DIM)
    frames[:20] += 200
    return frames.half()


DATA = {
    "no clusters": normal(NUM_FRAMES, DIM).half(),
    "clusters": clustered([1.0] * 300),
    "heavy tail": clustered([1 / (k + 1) ** 2 for k in range(300)]),
    "a far heap": with_far_heap(),
    "one dimension": normal(NUM_FRAMES, 1).half(),
}


def centroid_sets(frames):
    """Frames as centroids, many more than rough units too; and centroids beside the frames."""
    for seed, num_units in enumerate([1, 3, 20, 100, 8 * ROUGH_UNITS]):
        chance = torch.Generator().manual_seed(seed)
        drawn = torch.randperm(len(frames), generator=chance)[:num_units]
        yield frames[drawn].float()
        yield 3 * normal(num_units, frames.shape[1], seed=seed)
    yield torch.full((1, frames.shape[1]), 50.0)


def worst_error(coreset, frames, weights=None):
    """The largest relative error of the coreset's inertia over all centroid sets."""
    errors = []
    for centroids in centroid_sets(frames):
        full = partial_sums(frames, centroids, weights).inertia
        found = partial_sums(coreset.frames_MD, centroids, coreset.weights_M).inertia
        errors.append(abs(found / full - 1))
    return max(errors)


@pytest.mark.parametrize("name", DATA)
def test_inertia_is_that_of_all_frames_for_centroids_chosen_without_the_coreset(name):
    frames = DATA[name]
    coreset = condense(every_frame(frames), SIZE, seed=0)
    assert 0.5 * SIZE < len(coreset.frames_MD) == len(coreset.weights_M) <= SIZE
    assert coreset.weights_M.double().sum().item() == pytest.approx(len(frames), rel=1e-6)
    assert coreset.weights_M.min() > 0
    # In one dimension many units leave next to no inertia, and that at few frames.
    assert worst_error(coreset, frames) < (0.1 if name == "one dimension" else 0.05)


@pytest.mark.parametrize("seed", range(3))
def test_a_far_heap_is_kept_better_than_by_a_uniform_sample(seed):
    frames, size = DATA["a far heap"], SIZE // 10
    chance = torch.Generator().manual_seed(seed)
    drawn = torch.randperm(NUM_FRAMES, generator=chance)[:size]
    uniform = Coreset(frames[drawn], torch.full((size,), NUM_FRAMES / size), 0)
    coreset = condense(every_frame(frames), size, seed)
    assert worst_error(uniform, frames) > 0.4
    assert worst_error(coreset, frames) < 0.1
    heap = coreset.frames_MD.float().mean(dim=1) > 100
    assert coreset.weights_M[heap].sum().item() == pytest.approx(20, rel=0.1)


def test_parts_added_up_and_condensed_again_stand_for_the_whole():
    """Merge and reduce, the parts being neighbours of one cluster each, as shards may be."""
    frames = DATA["heavy tail"]
    frames = frames[frames[:, 0].argsort()]
    parts = [
        condense(every_frame(part), SIZE // 4, seed)
        for seed, part in enumerate(frames.split(NUM_FRAMES // 10))
    ]
    merged = union(parts)
    assert len(merged.frames_MD) > 2 * SIZE
    assert worst_error(merged, frames) < 0.05
    again = condense(merged, SIZE, seed=0)
    assert len(again.frames_MD) <= SIZE
    assert again.weights_M.double().sum().item() == pytest.approx(len(frames), rel=1e-6)
    assert worst_error(again, frames) < 0.05


def test_weights_count():
    frames = DATA["clusters"]
    weights = torch.where(frames[:, 0] > 0, 100.0, 0.01)
    coreset = condense(Coreset(frames, weights, 3), SIZE, seed=0)
    assert coreset.num_rejected == 3
    assert coreset.weights_M.double().sum().item() == pytest.approx(weights.sum().item(), rel=1e-5)
    assert worst_error(coreset, frames, weights) < 0.05


@pytest.mark.parametrize("size", [15, 40])
def test_frames_and_weights_are_those_of_the_definition(size):
    """Of few frames all are looked at; a size below that of the rough units leaves some out."""
    frames = normal(150, 3).half()
    weights = 0.5 + normal(150, seed=1).abs()
    found = condense(Coreset(frames, weights, 0), size, seed=4)
    offset = torch.rand(1, generator=torch.Generator().manual_seed(4), dtype=torch.float64).item()
    centroids = rough_centroids(frames, ROUGH_UNITS, 4).tolist()
    expected = reference.condensed(frames.tolist(), weights.tolist(), centroids, size, offset)
    indices = [int((frames == row).all(dim=1).nonzero()) for row in found.frames_MD]
    assert sorted(indices) == sorted(expected)
    assert found.weights_M.tolist() == pytest.approx([expected[i] for i in indices], rel=1e-3)
    inertia = partial_sums(frames, frames[:5].float(), weights).inertia
    slow = reference.inertia(frames.tolist(), weights.tolist(), frames[:5].tolist())
    assert inertia == pytest.approx(slow, rel=1e-5)


def test_the_weighted_sum_of_frames_is_right_on_average():
    """Over 200 seeds, within four standard errors in every dimension."""
    frames = DATA["heavy tail"][:3000]
    frames = torch.cat([frames, frames[:30] + 30])
    sums = []
    for seed in range(200):
        found = condense(every_frame(frames), 300, seed)
        sums.append(found.weights_M.double() @ found.frames_MD.double())
    sums = torch.stack(sums)
    errors = sums.mean(dim=0) - frames.double().sum(dim=0)
    standard_errors = sums.std(dim=0) / math.sqrt(len(sums))
    assert (errors.abs() < 4 * standard_errors).all()
    # And the average says something: a few per cent of what a whole cluster adds.
    assert (standard_errors < 0.02 * frames.double().abs().sum(dim=0)).all()


@pytest.mark.parametrize("name", ["clusters", "heavy tail"])
def test_a_fit_on_the_coreset_is_as_good_as_one_on_all_frames(name):
    """A unit's mean is off by its variance over its drawn frames: some 100 of them, 1 per cent."""
    frames, num_units = DATA[name], 30
    coreset = condense(every_frame(frames), 3000, seed=0)
    start = initialise(coreset.frames_MD, num_units, 0, coreset.weights_M)
    fit = iterate(start, lambda c: partial_sums(coreset.frames_MD, c, coreset.weights_M), 50, 1e-4)
    full = fit_sample(frames, num_units, 0, max_passes=50, tolerance=1e-4)
    assert partial_sums(frames, fit.centroids_KD).inertia <= 1.02 * full.sums.inertia


def test_on_its_own_coreset_a_fit_looks_better_than_it_is():
    """Seven frames a unit: about (1 - 1/7) of the variance there, (1 + 1/7) elsewhere."""
    frames = DATA["no clusters"]
    coreset = condense(every_frame(frames), SIZE, seed=0)
    start = initialise(coreset.frames_MD, 300, 0, coreset.weights_M)
    fit = iterate(start, lambda c: partial_sums(coreset.frames_MD, c, coreset.weights_M), 20, 1e-3)
    true = partial_sums(frames, fit.centroids_KD).mean_squared_distance
    assert fit.sums.mean_squared_distance < 0.85 * true


def test_what_is_small_enough_is_kept_as_it_is():
    whole = Coreset(normal(50, 3).half(), normal(50).abs(), 2)
    assert condense(whole, 50, seed=0) is whole
    assert condense(whole, 49, seed=0) is not whole


def test_only_frames_that_represent_themselves_alone_are_unweighted():
    whole = every_frame(normal(50, 3))
    assert whole.is_unweighted
    assert not condense(whole, 20, seed=0).is_unweighted


def test_the_seed_decides():
    whole = every_frame(DATA["clusters"])
    one, again, other = (condense(whole, 100, seed) for seed in (0, 0, 1))
    assert one.frames_MD.equal(again.frames_MD)
    assert one.weights_M.equal(again.weights_M)
    assert not one.frames_MD.equal(other.frames_MD)


def test_frames_that_are_not_finite_are_left_out_and_counted():
    frames = normal(100, 4).half()
    frames[3, 1], frames[7, 0], frames[8, 2] = math.nan, math.inf, -math.inf
    frames[9, :2] = torch.tensor([math.inf, -math.inf])
    whole = every_frame(frames)
    assert whole.frames_MD.equal(frames[frames.isfinite().all(dim=1)])
    assert whole.weights_M.tolist() == [1] * 96
    few = condense(union([whole, whole]), 20, seed=0)
    assert whole.num_rejected == 4
    assert few.num_rejected == 8
    assert few.weights_M.sum().item() == pytest.approx(192)


def test_what_float16_cannot_hold_is_left_out_too():
    whole = every_frame(torch.tensor([[1.0], [1e5], [-60_000.0]]))
    assert whole.frames_MD.isfinite().all()
    assert (len(whole.frames_MD), whole.num_rejected) == (2, 1)


def test_without_a_finite_frame_nothing_is_left():
    whole = every_frame(torch.full((5, 3), math.nan).half())
    for coreset in (whole, condense(whole, 2, seed=0), union([whole, whole])):
        assert coreset.frames_MD.shape == (0, 3)
        assert coreset.weights_M.shape == (0,)
    assert whole.num_rejected == 5


@pytest.mark.parametrize("dim", [1, 4])
def test_equal_frames_weigh_as_much_as_all_of_them(dim):
    few = condense(every_frame(torch.full((500, dim), 2.5).half()), 7, seed=0)
    assert few.frames_MD.unique().tolist() == [2.5]
    assert 1 <= len(few.frames_MD) <= 7
    assert few.weights_M.sum().item() == pytest.approx(500)


def test_one_frame_is_its_own_coreset_and_one_may_stand_for_many():
    one = every_frame(normal(1, 3))
    assert condense(one, 1, seed=0) is one
    many = condense(every_frame(normal(300, 3)), 1, seed=0)
    assert many.weights_M.tolist() == pytest.approx([300])


def test_parts_of_different_dimensions_are_refused():
    with pytest.raises(FramesError, match=r"\[3, 4\] dimensions.*one SSL model"):
        union([every_frame(normal(2, 4)), every_frame(normal(2, 3))])
