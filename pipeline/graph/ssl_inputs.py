"""What stages that use a config's SSL model depend on: a pretrained one, or another config's training."""

from pipeline.config import Config
from pipeline.features.fingerprint import ssl_fingerprint
from pipeline.graph.sources import Source
from pipeline.graph.stage import Input

TRAINING = "train_joint"


def ssl_sources(config: Config) -> dict[str, Source]:
    """The pretrained model, unless a training is to fine-tune it first."""
    finetuned = config.ssl.finetuned_by is not None
    return {} if finetuned else {"ssl": Source(config.ssl, ssl_fingerprint)}


def ssl_inputs(config: Config) -> tuple[Input, ...]:
    """The training that fine-tunes the model, named `TRAINING` among a stage's inputs; or none."""
    other = config.ssl.finetuned_by
    return () if other is None else (Input(TRAINING, config=other),)
