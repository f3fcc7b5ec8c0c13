"""Ordinary k-means: the codebook stays as it was fitted, and no gradient passes it."""

from typing import Any

from pipeline.config.quantizer import Quantizer, QuantizerKind


def _build(settings: Quantizer, codebook: Any) -> Any:
    from pipeline.quantizer.dkm import DifferentiableKMeans

    quantizer = DifferentiableKMeans.of(
        codebook, settings.sigma, settings.distance, assignment="nearest"
    )
    return quantizer.requires_grad_(requires_grad=False)


QUANTIZER = QuantizerKind(_build, passes_gradient=False)
