"""An SSL model from a transformers checkpoint, by the family that its config names."""

from pathlib import Path

import torch
from transformers import AutoConfig, AutoFeatureExtractor, AutoModel

from pipeline.audio.frame_grid import SSL_GRID
from pipeline.features.encoders.convolutional import ConvolutionalEncoder
from pipeline.features.ssl import SslModel, no_progress_bars

FAMILIES = ("wavlm", "hubert", "wav2vec2")


def load_encoder(
    model: str | Path, revision: str | None = None, max_layer: int | None = None
) -> SslModel:
    """Load a checkpoint by hub name or folder, in float32 and evaluation mode.

    Args:
        model: hub name or folder.
        revision: commit of a hub model.
        max_layer: layers above it are dropped; `None` keeps all.

    Raises:
        ValueError: it is no model that can be used, or has fewer layers than `max_layer`.
    """
    family = AutoConfig.from_pretrained(model, revision=revision).model_type
    if family not in FAMILIES:
        raise ValueError(f"ssl.model is a '{family}' model; name one of {', '.join(FAMILIES)}")
    feature_extractor = AutoFeatureExtractor.from_pretrained(model, revision=revision)
    if feature_extractor.sampling_rate != SSL_GRID.sample_rate_hz:
        raise ValueError(
            f"ssl.model needs audio at {feature_extractor.sampling_rate} Hz, the corpus is read "
            f"at {SSL_GRID.sample_rate_hz} Hz: name a model trained on 16 kHz speech"
        )
    with no_progress_bars():
        backbone = AutoModel.from_pretrained(model, revision=revision, dtype=torch.float32)
    return ConvolutionalEncoder(backbone, feature_extractor, max_layer).eval()
