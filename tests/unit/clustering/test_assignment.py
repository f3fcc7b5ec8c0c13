import pytest
import torch
from reference import soft_assignment

from pipeline.clustering import tiles
from pipeline.clustering.assignment import (
    assign,
    closeness,
    entropy,
    log_probabilities,
    mixture,
    nearest,
)


def normal(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(
    ("num_frames", "num_units", "dim"), [(60, 9, 7), (1, 5, 3), (20, 1, 4), (30, 6, 1), (0, 3, 2)]
)
def test_nearest_is_the_naive_argmin(num_frames, num_units, dim):
    frames, centroids = normal(num_frames, dim), normal(num_units, dim, seed=1)
    units, distances = nearest(frames, centroids)
    expected = soft_assignment.nearest(frames, centroids)
    assert units.dtype == torch.int64
    assert units.tolist() == [unit for unit, _ in expected]
    assert distances.tolist() == pytest.approx([distance for _, distance in expected], rel=1e-5)


def test_ties_go_to_the_lowest_index():
    centroids = torch.tensor([[5.0, 5.0], [1.0, 0.0], [-1.0, 0.0], [1.0, 0.0]])
    frames = torch.tensor([[0.0, 0.0], [1.0, 0.0], [-1.0, 0.0]])
    assert assign(frames, centroids).tolist() == [1, 1, 2]


def test_equal_frames_get_equal_units():
    assert assign(torch.ones(50, 3), normal(4, 3)).unique().numel() == 1


def test_tiles_change_nothing(monkeypatch):
    frames, centroids = normal(101, 6), normal(8, 6, seed=1)
    whole = nearest(frames, centroids)
    monkeypatch.setitem(tiles.ELEMENTS, "cpu", 24)
    in_tiles = nearest(frames, centroids)
    assert torch.equal(whole[0], in_tiles[0])
    torch.testing.assert_close(whole[1], in_tiles[1])


def test_a_large_common_offset_costs_no_accuracy():
    """Far from zero, ||mu||^2 - 2 s mu in float32 would drown distances of order one."""
    frames, centroids = normal(200, 8) + 3000, normal(10, 8, seed=1) + 3000
    expected = [unit for unit, _ in soft_assignment.nearest(frames.double(), centroids.double())]
    assert assign(frames, centroids).tolist() == expected


def test_autocast_does_not_lower_the_precision():
    frames, centroids = normal(300, 16), normal(40, 16, seed=1)
    expected = nearest(frames, centroids)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        units, distances = nearest(frames, centroids)
        close = closeness(frames, centroids)
    assert torch.equal(units, expected[0])
    assert torch.equal(distances, expected[1])
    assert close.dtype == torch.float32
    assert torch.equal(close, closeness(frames, centroids))


def test_half_precision_frames_are_read_as_they_are():
    frames, centroids = normal(100, 5).half(), normal(7, 5, seed=1)
    assert torch.equal(assign(frames, centroids), assign(frames.float(), centroids))


@pytest.mark.parametrize("sigma_squared", [0.01, 1.0, 30.0])
def test_probabilities_and_entropy_are_the_naive_ones(sigma_squared):
    frames, centroids = normal(12, 5), normal(6, 5, seed=1)
    log_p = log_probabilities(closeness(frames, centroids), sigma_squared)
    expected = torch.tensor(
        [
            soft_assignment.probabilities(frame, centroids.tolist(), sigma_squared)
            for frame in frames.tolist()
        ],
        dtype=torch.float64,
    )
    torch.testing.assert_close(log_p.exp().double(), expected, rtol=1e-4, atol=1e-7)
    expected_entropy = -(expected * expected.clamp(min=1e-300).log()).sum(dim=1)
    torch.testing.assert_close(entropy(log_p).double(), expected_entropy, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("tau", [0.05, 0.7, 20.0])
def test_a_mixture_is_the_naive_one_and_its_largest_part_the_nearest_unit(tau):
    frames, centroids = normal(12, 5), normal(6, 5, seed=1)
    found = mixture(closeness(frames, centroids, "euclidean"), tau)
    expected = [
        soft_assignment.probabilities(frame, centroids.tolist(), 1 / tau, "euclidean")
        for frame in frames.tolist()
    ]
    wanted = torch.tensor(expected, dtype=torch.float64)
    torch.testing.assert_close(found.double(), wanted, rtol=1e-4, atol=1e-7)
    assert torch.equal(found.argmax(1), assign(frames, centroids))


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_frames_that_are_not_finite_are_refused(value):
    frames = normal(5, 3)
    frames[2, 1] = value
    with pytest.raises(ValueError, match="1 of 5 frames hold NaN or infinity"):
        assign(frames, normal(2, 3))


@pytest.mark.parametrize(
    ("frames", "centroids"), [((4, 3), (2, 5)), ((4,), (2, 4)), ((4, 3), (0, 3))]
)
def test_shapes_that_do_not_fit_are_refused(frames, centroids):
    with pytest.raises(ValueError, match="must be frames x dim and units x dim"):
        assign(torch.zeros(frames), torch.zeros(centroids))
