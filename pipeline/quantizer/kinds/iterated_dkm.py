"""Iterated differentiable k-means: centroids settle on each batch before units are chosen."""

from typing import Any

from pipeline.config.quantizer import Quantizer, QuantizerKind


def _build(settings: Quantizer, codebook: Any) -> Any:
    from pipeline.quantizer.iterated import IteratedKMeans

    return IteratedKMeans.of(
        codebook,
        settings.sigma,
        settings.distance,
        assignment=settings.assignment,
        max_iterations=settings.iteration.max_iterations,
        tolerance=settings.iteration.tolerance,
    )


QUANTIZER = QuantizerKind(_build)
