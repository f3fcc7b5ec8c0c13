"""Euclidean logits, above all where float32 loses a distance in products."""

import pytest
import torch
from reference import soft_assignment

from pipeline.clustering import tiles
from pipeline.clustering.assignment import closeness
from pipeline.clustering.logits import Logits


def normal(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def distances(frames, centroids):
    """In float64, frame by frame."""
    rows = [[soft_assignment.squared_distance(s, mu) ** 0.5 for mu in centroids] for s in frames]
    return torch.tensor(rows, dtype=torch.float64)


@pytest.fixture(params=["one tile", "tiles of a few pairs"])
def tile_size(request, monkeypatch):
    if request.param != "one tile":
        monkeypatch.setitem(tiles.ELEMENTS, "cpu", 30)


@pytest.mark.usefixtures("tile_size")
@pytest.mark.parametrize("share", [1.0, 0.3, 0.1, 1e-2, 1e-3])
@pytest.mark.parametrize("offset", [0.0, 30.0])
def test_distances_near_a_centroid_are_those_of_float64(share, offset):
    """From products alone, the smallest of them would be wrong by more than a tenth."""
    centroids = normal(9, 32, seed=1) + offset
    frames = centroids + share * normal(9, 32)
    found = -closeness(frames, centroids, "euclidean")
    tolerance = 1e-4 if offset == 0 else 1e-3
    expected = distances(frames, centroids)
    torch.testing.assert_close(found.double(), expected, rtol=tolerance, atol=0)


@pytest.mark.usefixtures("tile_size")
def test_a_frame_on_a_centroid_is_at_distance_zero():
    centroids = normal(9, 32, seed=1) + 3
    assert not closeness(centroids, centroids, "euclidean").diagonal().any()
    assert closeness(centroids, centroids, "euclidean").count_nonzero() == 9 * 8


def test_logits_are_sharpness_times_the_distance_which_is_kept():
    frames, centroids = normal(7, 5), normal(4, 5, seed=1)
    logits = Logits.of(centroids, 2.5, "euclidean")
    out, kept = torch.empty(7, 4), torch.empty(7, 4)
    logits.write(frames - logits.origin_D, out, kept)
    torch.testing.assert_close(kept.double(), distances(frames, centroids), rtol=1e-5, atol=0)
    assert torch.equal(out, -2.5 * kept)


@pytest.mark.parametrize("distance", ["squared", "euclidean"])
def test_gradients_reach_centroids_and_sigma(distance):
    centroids = normal(4, 5, seed=1).requires_grad_()
    sigma_squared = torch.tensor(2.5, requires_grad=True)
    logits = Logits.of(centroids, sigma_squared, distance)
    parts = [logits.weight_KD.sum(), logits.bias_K.sum(), logits.sharpness]
    sum(part for part in parts if part is not None).backward()
    assert centroids.grad.all()
    assert sigma_squared.grad
