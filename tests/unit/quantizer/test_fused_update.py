"""A soft update by the GPU's kernels against float64; without a GPU, Triton's interpreter runs them."""

import pytest
import torch
from reference import iterated_kmeans

pytest.importorskip("triton")

from pipeline.quantizer import fused_gradients, fused_update
from pipeline.quantizer import soft_update as soft_update_module
from pipeline.quantizer.soft_update import PRIOR_FRAMES, soft_update

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
VALID = [0, 1, 2, 3, 4, 5, 7, 8, 10, 11]


@pytest.fixture(autouse=True)
def _kernels_on_several_tiles(monkeypatch):
    """Of 10 frames: tiles of 7 and 3, of which each program sums up 4."""
    monkeypatch.setattr(soft_update_module, "is_fused", lambda *_: True)
    for name, rows in {"TILE_ROWS": 7, "BACKWARD_ROWS": 7, "ROWS_OF_A_SUM": 4}.items():
        monkeypatch.setattr(fused_update, name, rows)
    monkeypatch.setattr(fused_gradients, "ROWS_OF_A_SUM", 4)


def normal(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def case(num_units=6, dim=5):
    return normal(12, dim), normal(num_units, dim, seed=1)


CASES = {
    "usual": case(),
    "one unit": case(num_units=1),
    "one dimension": case(dim=1),
    "equal centroids": (case()[0], torch.ones(6, 5)),
    "a unit with no mass": (case()[0], torch.cat([case(5)[1], 10 * torch.ones(1, 5)])),
    "frames on centroids": (
        torch.cat([case()[1], (0.01 + case()[1])[:5], normal(1, 5)]),
        case()[1],
    ),
}


def close(found, expected):
    """Within 1e-4 of the largest value, as `test_soft_update` has it for single ones."""
    difference = (found.double().cpu() - expected).abs().max()
    assert difference <= 2e-5 + 1e-4 * expected.abs().max()


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("distance", ["squared", "euclidean"])
def test_value_and_gradients_are_those_of_float64_autograd(distance, name):
    frames, centroids = CASES[name]
    wide = [frames.double(), centroids.double(), torch.tensor(0.7, dtype=torch.float64)]
    parts = [part.to(DEVICE, torch.float32).requires_grad_() for part in wide]
    valid = torch.tensor(VALID, device=DEVICE)
    upstream = normal(*centroids.shape, seed=2)
    found = soft_update(parts[0], valid, parts[1], parts[2], distance)
    (found * upstream.to(DEVICE)).sum().backward()

    wide = [part.requires_grad_() for part in wide]
    expected = iterated_kmeans.update(wide[0][VALID], wide[1], wide[2], PRIOR_FRAMES, distance)
    (expected * upstream.double()).sum().backward()

    close(found.detach(), expected.detach())
    for part, exact in zip(parts, wide, strict=True):
        close(part.grad, exact.grad)


@pytest.mark.parametrize("distance", ["squared", "euclidean"])
def test_a_unit_without_mass_stays_exactly_and_passes_its_gradient_on(distance):
    frames, centroids = (part.to(DEVICE) for part in CASES["a unit with no mass"])
    centroids = torch.cat([centroids[:-1], 100 * centroids[-1:]]).requires_grad_()
    found = soft_update(frames, torch.tensor(VALID, device=DEVICE), centroids, 4.0, distance)
    found[-1].sum().backward()
    assert torch.equal(found[-1], centroids[-1])
    assert torch.equal(centroids.grad[-1], torch.ones(5, device=DEVICE))
    assert not centroids.grad[:-1].any()


@pytest.mark.parametrize("distance", ["squared", "euclidean"])
def test_frames_that_take_no_gradient_change_no_other_and_padding_is_not_read(distance):
    frames, centroids = (part.to(DEVICE) for part in CASES["usual"])
    valid = torch.tensor(VALID, device=DEVICE)
    dirty = torch.full_like(frames, torch.nan).index_copy_(0, valid, frames[valid])
    gradients = []
    for frozen in (False, True):
        start = centroids.clone().requires_grad_()
        given = dirty.clone().requires_grad_(not frozen)
        soft_update(given, valid, start, 0.7, distance).square().sum().backward()
        assert (given.grad is None) is frozen
        gradients.append(start.grad)
    torch.testing.assert_close(*gradients)
    assert torch.isfinite(gradients[0]).all()


def test_without_a_valid_frame_nothing_moves():
    frames, centroids = (part.to(DEVICE) for part in CASES["usual"])
    centroids.requires_grad_()
    found = soft_update(frames, torch.empty(0, dtype=torch.int64, device=DEVICE), centroids, 0.7)
    found.sum().backward()
    assert torch.equal(found, centroids)
    assert torch.equal(centroids.grad, torch.ones_like(centroids))


def test_the_bound_of_gradients_is_the_largest_mean_that_shares_allow():
    values, most = torch.tensor([1.0, 5.0, 3.0, 0.5]), torch.tensor([1.0, 0.25, 0.5, 1.0])
    found = fused_update._largest_mean(values, most)
    assert found == 0.25 * 5 + 0.5 * 3 + 0.25 * 1
