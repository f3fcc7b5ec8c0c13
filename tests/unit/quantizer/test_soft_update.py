import math

import pytest
import torch
from reference import iterated_kmeans

from pipeline.clustering import tiles
from pipeline.quantizer.soft_update import PRIOR_FRAMES, soft_update


def normal(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(params=["one tile", "tiles of a few frames"])
def tile_size(request, monkeypatch):
    if request.param != "one tile":
        monkeypatch.setitem(tiles.ELEMENTS, "cpu", 30)


def case(num_frames=15, dim=4, num_units=6, valid=(0, 1, 2, 4, 5, 6, 7, 11, 12, 13, 14)):
    return normal(num_frames, dim), torch.tensor(valid), normal(num_units, dim, seed=1)


CASES = {
    "usual": case(),
    "one unit": case(num_units=1),
    "one dimension": case(dim=1),
    "one frame": case(num_frames=1, valid=(0,)),
    "equal frames": (torch.ones(15, 4), *case()[1:]),
    "equal centroids": (*case()[:2], torch.ones(6, 4)),
    "far from the origin": tuple(part + 50 if part.ndim == 2 else part for part in case()),
    "a unit with no mass": (*case()[:2], torch.cat([normal(5, 4, seed=1), 10 * torch.ones(1, 4)])),
    "frames on centroids": (torch.cat([normal(6, 4, seed=1), normal(9, 4)]), *case()[1:]),
}


@pytest.mark.usefixtures("tile_size")
@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("sigma_squared", [0.05, 0.7, 4.0])
@pytest.mark.parametrize("distance", ["squared", "euclidean"])
def test_value_and_gradients_are_those_of_float64_autograd(distance, name, sigma_squared):
    frames, valid, centroids = CASES[name]
    parts = [
        frames.clone().requires_grad_(),
        centroids.clone().requires_grad_(),
        torch.tensor(sigma_squared, requires_grad=True),
    ]
    upstream = normal(*centroids.shape, seed=2)
    found = soft_update(parts[0], valid, parts[1], parts[2], distance)
    (found * upstream).sum().backward()

    wide = [part.detach().double().requires_grad_() for part in parts]
    expected = iterated_kmeans.update(wide[0][valid], wide[1], wide[2], PRIOR_FRAMES, distance)
    (expected * upstream.double()).sum().backward()

    torch.testing.assert_close(found.double(), expected, rtol=1e-5, atol=1e-5)
    for part, exact in zip(parts, wide, strict=True):
        torch.testing.assert_close(part.grad.double(), exact.grad, rtol=1e-4, atol=2e-5)


@pytest.mark.usefixtures("tile_size")
def test_frames_that_do_not_count_are_never_read_and_get_nothing():
    frames, valid, centroids = case()
    dirty = torch.full_like(frames, torch.nan).index_copy_(0, valid, frames[valid])
    dirty.requires_grad_()
    found = soft_update(dirty, valid, centroids, 0.7)
    assert torch.equal(found, soft_update(frames, valid, centroids, 0.7))
    found.square().sum().backward()
    beside = torch.ones(len(frames), dtype=torch.bool).index_fill_(0, valid, value=False)
    assert not dirty.grad[beside].any()
    assert dirty.grad[valid].all()


def test_without_a_valid_frame_nothing_moves():
    frames, _, centroids = case()
    frames.requires_grad_()
    centroids.requires_grad_()
    found = soft_update(frames, torch.empty(0, dtype=torch.int64), centroids, 0.7)
    found.sum().backward()
    assert torch.equal(found, centroids)
    assert not frames.grad.any()
    assert torch.equal(centroids.grad, torch.ones_like(centroids))


def test_a_unit_without_mass_stays_exactly_and_passes_its_gradient_on():
    frames, valid, centroids = CASES["a unit with no mass"]
    centroids = centroids.clone().requires_grad_()
    found = soft_update(frames, valid, centroids, 4.0)
    found[-1].sum().backward()
    assert torch.equal(found[-1], centroids[-1])
    assert torch.equal(centroids.grad[-1], torch.ones(4))
    assert not centroids.grad[:-1].any()


def test_a_unit_moves_as_far_as_its_mass_goes():
    """Of two units on one frame, the far one has mass m and goes the share m / (kappa + m)."""
    frame, valid = torch.zeros(1, 1), torch.tensor([0])
    for mass in (1e-9, 1e-3, 0.3):
        distance = math.sqrt(math.log(1 / mass - 1))
        far = soft_update(frame, valid, torch.tensor([[0.0], [distance]]), 1.0)[1].item()
        assert 1 - far / distance == pytest.approx(mass / (PRIOR_FRAMES + mass), rel=1e-3, abs=1e-7)


def test_many_hard_frames_give_their_means():
    centres = torch.tensor([[-20.0, 0.0], [20.0, 0.0]])
    frames = torch.cat([centres[:1] + normal(2000, 2), centres[1:] + normal(3000, 2, seed=1)])
    found = soft_update(frames, torch.arange(5000), 0.9 * centres, 1.0)
    means = torch.stack([frames[:2000].mean(dim=0), frames[2000:].mean(dim=0)])
    torch.testing.assert_close(found, means, rtol=1e-5, atol=1e-5)


@pytest.mark.usefixtures("tile_size")
def test_autocast_does_not_lower_the_precision():
    frames, valid, centroids = case()
    gradients = []
    for enabled in (False, True):
        start = centroids.clone().requires_grad_()
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=enabled):
            found = soft_update(frames, valid, start, 0.7)
            (found * normal(6, 4, seed=2)).sum().backward()
        gradients.append((found.detach(), start.grad))
    assert all(map(torch.equal, *gradients))


def test_gradients_reach_low_precision_frames():
    frames, valid, centroids = case()
    low = frames.bfloat16().requires_grad_()
    found = soft_update(low, valid, centroids, 0.7)
    found.sum().backward()
    same = low.detach().float().requires_grad_()
    expected = soft_update(same, valid, centroids, 0.7)
    expected.sum().backward()
    assert torch.equal(found, expected)
    assert torch.equal(low.grad, same.grad.bfloat16())


@pytest.mark.parametrize("distance", ["squared", "euclidean"])
def test_what_is_frozen_gets_no_gradient_and_changes_no_other(distance):
    frames, valid, centroids = case()
    gradients = []
    for frozen in (False, True):
        start = centroids.clone().requires_grad_()
        given = frames.clone().requires_grad_(not frozen)
        found = soft_update(given, valid, start, 0.7, distance)
        (found * normal(6, 4, seed=2)).sum().backward()
        assert (given.grad is None) is frozen
        gradients.append(start.grad)
    assert torch.equal(*gradients)
