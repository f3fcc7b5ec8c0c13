"""The initial sharpness of the soft assignment: sigma^2 of p = softmax(-sigma^2 d(s, mu))."""

import math
from typing import TYPE_CHECKING

from torch import Tensor

from pipeline.clustering.assignment import (
    closeness,
    entropy,
    log_probabilities,
    require_finite,
    require_shapes,
)
from pipeline.clustering.logits import Distance

if TYPE_CHECKING:
    from pipeline.config import Sigma

# Enough for a mean; each step of the bisection reads all of them.
CALIBRATION_FRAMES = 4096
# sigma^2 is searched between 1 / REACH and REACH, in units of 1 / the typical distance.
REACH = 1e8
BISECTION_STEPS = 40


def initial_sigma_squared(
    sigma: "Sigma",
    sample_frames_ND: Tensor,
    centroids_KD: Tensor,
    mean_squared_distance: float,
    distance: Distance = "squared",
) -> float:
    """The sigma^2 that the config asks for.

    Args:
        sigma: `fixed`, `scaled` or `perplexity`, with its value.
        sample_frames_ND: frames that `perplexity` is calibrated on (at most 4,096, evenly picked).
        centroids_KD: the k-means codebook.
        mean_squared_distance: of the frames to their nearest centroid; its root is the unit of
            Euclidean distances.
        distance: what sigma^2 multiplies.

    Raises:
        ValueError: the mean squared distance is not positive, or the perplexity is out of reach.
    """
    if not (mean_squared_distance > 0 and math.isfinite(mean_squared_distance)):
        raise ValueError(
            "a quantizer needs a positive mean squared distance of the frames to the centroids, got "
            f"{mean_squared_distance}: the codebook has a unit for every frame; lower "
            "codebook.num_units, or use more speech"
        )
    if sigma.kind == "fixed":
        return sigma.value
    squared = distance == "squared"
    typical_distance = mean_squared_distance if squared else math.sqrt(mean_squared_distance)
    if sigma.kind == "scaled":
        return sigma.value / typical_distance
    closeness_NK = _closeness_sample(sample_frames_ND, centroids_KD, distance)
    return _bisect_perplexity(sigma.value, closeness_NK, typical_distance)


def _closeness_sample(frames_ND: Tensor, centroids_KD: Tensor, distance: Distance) -> Tensor:
    require_shapes(frames_ND, centroids_KD)
    if len(frames_ND) == 0:
        raise ValueError("there is no frame to calibrate sigma on: the sample is empty")
    picked_ND = frames_ND[:: math.ceil(len(frames_ND) / CALIBRATION_FRAMES)]
    require_finite(picked_ND)
    return closeness(picked_ND, centroids_KD, distance)


def _bisect_perplexity(target: float, closeness_NK: Tensor, typical_distance: float) -> float:
    def mean_perplexity(sigma_squared: float) -> float:
        return float(entropy(log_probabilities(closeness_NK, sigma_squared)).exp().mean())

    # A larger sigma^2 makes every frame's p sharper, so the mean perplexity only falls.
    low, high = 1 / (REACH * typical_distance), REACH / typical_distance
    most, least = mean_perplexity(low), mean_perplexity(high)
    if not least < target < most:
        raise ValueError(
            f"quantizer.sigma asks for a mean perplexity of {target:g}, but these "
            f"{closeness_NK.shape[1]} centroids allow only more than {least:g} and less than "
            f"{most:g}: choose a value in between, or kind 'scaled'"
        )
    for _ in range(BISECTION_STEPS):
        middle = math.sqrt(low * high)
        if mean_perplexity(middle) > target:
            low = middle
        else:
            high = middle
    return math.sqrt(low * high)
