"""Gradients of Euclidean logits where a frame is near a centroid, against float64 autograd."""

import pytest
import torch
from reference import soft_assignment

from pipeline.clustering import tiles
from pipeline.clustering.frame_tiles import frame_tiles
from pipeline.clustering.logits import Logits
from pipeline.quantizer.logit_gradients import LogitGradients


def normal(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def gradients(frames, centroids, upstream, sigma_squared=0.7):
    """Of sum(upstream * logits), for frames, centroids and sigma^2."""
    centroids = centroids.clone().requires_grad_()
    sigma_squared = torch.tensor(sigma_squared, requires_grad=True)
    logits = Logits.of(centroids, sigma_squared, "euclidean")
    plain = Logits(*(part.detach() for part in vars(logits).values()))
    found = LogitGradients.zeros(plain)
    of_frames = torch.empty_like(frames)
    for tile in frame_tiles(frames, torch.arange(len(frames)), plain):
        found.add(plain, tile, upstream[tile.span].clone(), to_frames=True)
        of_frames[tile.span] = tile.frames_RD
    torch.autograd.backward(
        [logits.weight_KD, logits.bias_K, logits.sharpness],
        [found.weight_KD, found.bias_K, found.sharpness],
    )
    return of_frames, centroids.grad, sigma_squared.grad


def exact(frames, centroids, upstream, sigma_squared=0.7):
    parts = [frames.double(), centroids.double(), torch.tensor(sigma_squared, dtype=torch.float64)]
    s, mu, sharpness = (part.requires_grad_() for part in parts)
    rows = [[soft_assignment.separation(a, b, "euclidean") for b in mu] for a in s]
    logits = -sharpness * torch.stack([torch.stack(row) for row in rows])
    return torch.autograd.grad((logits * upstream.double()).sum(), [s, mu, sharpness])


def close(found, expected):
    """Within 1e-4 of the largest value: the smaller ones are differences."""
    assert (found.double() - expected).abs().max() <= 1e-4 * expected.abs().max()


@pytest.fixture(params=["one tile", "tiles of a few frames"])
def tile_size(request, monkeypatch):
    if request.param != "one tile":
        monkeypatch.setitem(tiles.ELEMENTS, "cpu", 70)


@pytest.mark.usefixtures("tile_size")
@pytest.mark.parametrize("share", [1.0, 0.1, 0.03, 1e-2, 1e-3])
def test_near_a_centroid_they_are_exact(share):
    centroids, upstream = normal(9, 32, seed=1), normal(9, 9, seed=2)
    frames = centroids + share * normal(9, 32)
    found = gradients(frames, centroids, upstream)
    for part, expected in zip(found, exact(frames, centroids, upstream), strict=True):
        close(part, expected)


@pytest.mark.usefixtures("tile_size")
def test_a_frame_on_its_centroid_is_pulled_by_the_others_alone():
    centroids, upstream = normal(9, 32, seed=1), normal(9, 9, seed=2)
    frames = centroids.clone()
    found = gradients(frames, centroids, upstream)
    for part, expected in zip(found, exact(frames, centroids, upstream), strict=True):
        close(part, expected)
    lonely = gradients(frames, centroids, torch.eye(9))
    assert [part.count_nonzero().item() for part in lonely] == [0, 0, 0]


def test_one_centroid_at_the_origin_and_a_frame_on_it():
    for part in gradients(torch.zeros(2, 3), torch.zeros(1, 3), torch.ones(2, 1)):
        assert not part.any()
