"""Differentiable k-means: the codebook learns from the ASR loss."""

from typing import Any

from pipeline.config.quantizer import Quantizer, QuantizerKind


def _build(settings: Quantizer, codebook: Any) -> Any:
    from pipeline.quantizer.dkm import DifferentiableKMeans

    return DifferentiableKMeans.of(
        codebook, settings.sigma, settings.distance, assignment=settings.assignment
    )


QUANTIZER = QuantizerKind(_build)
