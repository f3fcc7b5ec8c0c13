"""An SSL model from a transformers checkpoint, by the family that its config names."""

from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoFeatureExtractor, AutoModel

from pipeline.audio.frame_grid import SSL_GRID
from pipeline.audio.model_grid import POOL
from pipeline.config.features import FAMILIES
from pipeline.features.dropout import set_dropout
from pipeline.features.encoders.convolutional import ConvolutionalEncoder
from pipeline.features.encoders.data2vec import Data2VecEncoder
from pipeline.features.encoders.pooled import PooledEncoder
from pipeline.features.encoders.wav2vec2_bert import Wav2Vec2BertEncoder
from pipeline.features.encoders.whisper import Pad, WhisperBackbone, WhisperEncoder
from pipeline.features.ssl import SslModel, no_progress_bars

OF_THEIR_OWN = {"data2vec-audio": Data2VecEncoder, "wav2vec2-bert": Wav2Vec2BertEncoder}


def load_encoder(
    model: str | Path,
    revision: str | None = None,
    max_layer: int | None = None,
    pad: Pad | None = None,
    *,
    dropout: float | None = None,
    pool: int | None = None,
) -> SslModel:
    """Load a checkpoint by hub name or folder, in float32 and evaluation mode.

    Args:
        model: hub name or folder.
        revision: commit of a hub model.
        max_layer: layers above it are dropped; `None` keeps all.
        pad: how far utterances are padded, see `WhisperEncoder`; others never are.
        dropout: for training, in place of all that the checkpoint's config says.
        pool: how many neighbouring frames become one; `None` takes what a saved model had, or 1.

    Raises:
        ValueError: it is no model that can be used, or has fewer layers than `max_layer`.
    """
    settings = AutoConfig.from_pretrained(model, revision=revision)
    family = settings.model_type
    if family not in FAMILIES:
        raise ValueError(f"ssl.model is a '{family}' model; name one of {', '.join(FAMILIES)}")
    feature_extractor = AutoFeatureExtractor.from_pretrained(model, revision=revision)
    if feature_extractor.sampling_rate != SSL_GRID.sample_rate_hz:
        raise ValueError(
            f"ssl.model needs audio at {feature_extractor.sampling_rate} Hz, the corpus is read "
            f"at {SSL_GRID.sample_rate_hz} Hz: name a model trained on 16 kHz speech"
        )
    group: int = getattr(settings, POOL, 1) if pool is None else pool
    setattr(settings, POOL, group)
    if dropout is not None:
        set_dropout(settings, dropout)
    backbone_class: Any = WhisperBackbone if family == "whisper" else AutoModel
    with no_progress_bars():
        backbone = backbone_class.from_pretrained(
            model, revision=revision, config=settings, dtype=torch.float32
        )
    encoder: SslModel
    if family == "whisper":
        encoder = WhisperEncoder(backbone, feature_extractor, max_layer, pad)
    else:
        of_family = OF_THEIR_OWN.get(family, ConvolutionalEncoder)
        encoder = of_family(backbone, feature_extractor, max_layer)
    return (PooledEncoder(encoder, group) if group > 1 else encoder).eval()
