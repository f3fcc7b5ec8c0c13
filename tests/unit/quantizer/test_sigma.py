import math

import pytest
import torch
from reference import soft_assignment

from pipeline.config import Sigma
from pipeline.quantizer import sigma as sigma_module
from pipeline.quantizer.sigma import initial_sigma_squared


def normal(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


FRAMES, CENTROIDS = normal(50, 6), normal(8, 6, seed=1)


def mean_perplexity(frames, centroids, sigma_squared, distance="squared"):
    perplexities = []
    for frame in frames.tolist():
        p = soft_assignment.probabilities(frame, centroids.tolist(), sigma_squared, distance)
        perplexities.append(math.exp(-sum(share * math.log(share) for share in p if share > 0)))
    return sum(perplexities) / len(perplexities)


def test_fixed_and_scaled():
    assert initial_sigma_squared(Sigma(kind="fixed", value=3), FRAMES, CENTROIDS, 4.0) == 3
    assert initial_sigma_squared(Sigma(kind="scaled", value=10), FRAMES, CENTROIDS, 4.0) == 2.5


def test_fixed_and_scaled_of_euclidean_distances():
    parts = (FRAMES, CENTROIDS, 4.0, "euclidean")
    assert initial_sigma_squared(Sigma(kind="fixed", value=3), *parts) == 3
    assert initial_sigma_squared(Sigma(kind="scaled", value=10), *parts) == 5


@pytest.mark.parametrize("distance", ["squared", "euclidean"])
def test_scaled_means_the_same_p_whatever_the_scale_of_the_features(distance):
    sigma, perplexities = Sigma(kind="scaled", value=3), []
    for scale in (1.0, 300.0):
        frames, centroids = FRAMES * scale, CENTROIDS * scale
        found = initial_sigma_squared(sigma, frames, centroids, 4.0 * scale**2, distance)
        perplexities.append(mean_perplexity(frames, centroids, found, distance))
    assert perplexities[0] == pytest.approx(perplexities[1], rel=1e-4)


@pytest.mark.parametrize("target", [1.05, 2.0, 5.0, 7.9])
@pytest.mark.parametrize("scale", [1.0, 300.0])
@pytest.mark.parametrize("distance", ["squared", "euclidean"])
def test_perplexity_is_met(distance, target, scale):
    frames, centroids = FRAMES * scale, CENTROIDS * scale
    sigma = Sigma(kind="perplexity", value=target)
    found = initial_sigma_squared(sigma, frames, centroids, 4.0 * scale**2, distance)
    assert mean_perplexity(frames, centroids, found, distance) == pytest.approx(target, rel=1e-4)


def test_perplexity_is_calibrated_on_frames_from_all_of_a_long_sample(monkeypatch):
    monkeypatch.setattr(sigma_module, "CALIBRATION_FRAMES", 10)
    found = initial_sigma_squared(Sigma(kind="perplexity", value=2), FRAMES, CENTROIDS, 4.0)
    assert mean_perplexity(FRAMES[::5], CENTROIDS, found) == pytest.approx(2, rel=1e-4)


@pytest.mark.parametrize("target", [0.5, 1.0, 8.0, 100.0])
def test_perplexity_out_of_reach_is_refused(target):
    with pytest.raises(ValueError, match="choose a value in between"):
        initial_sigma_squared(Sigma(kind="perplexity", value=target), FRAMES, CENTROIDS, 4.0)


@pytest.mark.parametrize("kind", ["fixed", "scaled", "perplexity"])
def test_a_codebook_with_a_unit_for_every_frame_is_refused_with_a_cure_that_helps(kind):
    with pytest.raises(ValueError, match=r"lower codebook\.num_units, or use more speech"):
        initial_sigma_squared(Sigma(kind=kind, value=2), FRAMES, CENTROIDS, 0.0)


def test_without_frames_there_is_nothing_to_calibrate_on():
    with pytest.raises(ValueError, match="the sample is empty"):
        initial_sigma_squared(Sigma(kind="perplexity", value=2), FRAMES[:0], CENTROIDS, 1.0)
