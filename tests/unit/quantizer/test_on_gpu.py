"""The quantizer on a GPU, where there is one: what the CPU's tests promise holds there too."""

import pytest
import torch

from pipeline.clustering.assignment import nearest
from pipeline.clustering.coreset import condense, every_frame
from pipeline.clustering.kmeans import partial_sums
from pipeline.quantizer.dkm import DifferentiableKMeans
from pipeline.quantizer.iterated import IteratedKMeans
from pipeline.quantizer.noise import Noise, gumbel_noise

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")


def normal(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def quantized(device, model, frames):
    """Values and gradients of a training step without noise, which differs between devices."""
    frames = frames.detach().to(device).requires_grad_()
    num_rows, size, _ = frames.shape
    mask = torch.arange(size) < torch.tensor([size, size // 2, 0])[:num_rows, None]
    embedding = normal(50, 8, seed=2).to(device).requires_grad_()
    model = model.to(device)
    with torch.autocast(device, dtype=torch.bfloat16):
        result = model(frames, mask.to(device), embedding, 0.7, seed=1)
        upstream = normal(*result.embedded_BTE.shape, seed=3).to(device)
        ((result.embedded_BTE * upstream).sum() + result.losses["kmeans"]).backward()
    gradients = [frames.grad, embedding.grad, *(part.grad for part in model.parameters())]
    return [result.units_BT.cpu(), result.embedded_BTE.cpu(), *(part.cpu() for part in gradients)]


def same_on_both(make, frames):
    expected, *others = quantized("cpu", make(), frames)
    units, *found = quantized("cuda", make(), frames)
    assert torch.equal(units, expected)
    for own, other in zip(found, others, strict=True):
        torch.testing.assert_close(own, other, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("distance", ["squared", "euclidean"])
def test_a_step_is_that_of_the_cpu(distance):
    def make():
        settings = {"sigma_learned": True, "mean_squared_distance": 2.0, "distance": distance}
        return DifferentiableKMeans(normal(50, 24, seed=1), 0.05, assignment="argmax", **settings)

    same_on_both(make, normal(3, 700, 24))


@pytest.mark.parametrize(("distance", "sigma_squared"), [("squared", 0.15), ("euclidean", 1.4)])
def test_an_iterated_step_is_that_of_the_cpu(distance, sigma_squared):
    """Where frames have clusters, and sigma^2 is large enough for the centroids to stay in them.

    Below that all centroids meet (see `IteratedKMeans`), and which is nearest is up to rounding. And
    as many iterations on both: they do not stop where the last move happens to be small enough.
    """
    centres = normal(50, 24, seed=4)

    def make():
        return IteratedKMeans(
            centres + 0.2 * normal(50, 24, seed=1),
            sigma_squared,
            sigma_learned=True,
            mean_squared_distance=6.0,
            distance=distance,
            assignment="argmax",
            max_iterations=3,
            tolerance=0.0,
        )

    same_on_both(make, centres[torch.arange(2100) % 50].view(3, 700, 24) + 0.5 * normal(3, 700, 24))


def test_the_backward_pass_draws_the_noise_of_the_forward_pass():
    """With tau near zero y is nearly the one-hot of the unit, as is the gradient of a soft value."""
    frames = normal(1, 9000, 16).cuda()
    mask = torch.ones(1, 9000, dtype=torch.bool, device="cuda")
    embedding = normal(2000, 4, seed=2).cuda().requires_grad_()
    model = DifferentiableKMeans(
        normal(2000, 16, seed=1),
        0.01,
        sigma_learned=False,
        mean_squared_distance=2.0,
        assignment="soft",
    ).cuda()
    result = model(frames, mask, embedding, 1e-5, seed=5)
    result.embedded_BTE.sum().backward()
    counts_K = torch.bincount(result.units_BT.flatten(), minlength=2000)
    # Logits that two tile sizes round differently may share a frame between two units.
    assert (embedding.grad - counts_K[:, None]).abs().max() < 0.5
    assert (embedding.grad - counts_K[:, None]).abs().mean() < 1e-3
    out = torch.empty(64, 100, device="cuda")
    [tile] = Noise(1, (2,), (64,)).tiles(64)
    assert torch.equal(gumbel_noise(tile, out).clone(), gumbel_noise(tile, out))


def test_assignment_sums_and_coresets_are_those_of_the_cpu():
    frames, centroids = normal(20_000, 32), normal(300, 32, seed=1)
    units, distances = nearest(frames.cuda(), centroids.cuda())
    expected_units, expected_distances = nearest(frames, centroids)
    assert (units.cpu() == expected_units).double().mean() > 0.999
    torch.testing.assert_close(distances.cpu(), expected_distances, rtol=1e-4, atol=1e-4)
    sums = partial_sums(frames.cuda(), centroids.cuda())
    assert sums.inertia == pytest.approx(partial_sums(frames, centroids).inertia, rel=1e-5)
    coreset = condense(every_frame(frames.cuda()), 1000, seed=0)
    assert len(coreset.weights_M) <= 1000
    assert coreset.weights_M.sum().item() == pytest.approx(20_000, rel=1e-4)
