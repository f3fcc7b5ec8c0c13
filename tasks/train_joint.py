"""Joint training of codebook, layer weights, SSL model and ASR model on Ray Train."""

from collections.abc import Mapping
from typing import Any

from pipeline.config import Config
from pipeline.config.section import settings_of
from pipeline.corpus.parts import AUDIO, SPEAKER, TEXT, parts_of
from pipeline.graph.ssl_inputs import ssl_inputs, ssl_sources
from pipeline.graph.stage import Input, Stage, StageContext
from pipeline.storage.artifacts import CHECKPOINTS, Artifact

# Keys of `training` that change no result.
MEANS = {"gradient_checkpointing", "compile", "checkpoint_steps", "keep_checkpoints", "log_steps"}


def _settings(config: Config) -> dict[str, Any]:
    loss, layers = config.resynthesis_loss, config.used_layers
    # Learned weights over layers begin at the codebook's layer, of which no input tells where there are no
    # units. It came later than stored outputs, most of which begin at the highest layer.
    begins_below = not config.quantizer.has_units and config.codebook.layer != layers[-1]
    training = settings_of(config.training, {*MEANS, "seeds"})
    return {
        "quantizer": config.quantizer.settings(),
        "asr": settings_of(config.asr),
        "training": {**training, "seed": config.training.seed},
        "layers": list(layers),
        **({"initial_layer": config.codebook.layer} if begins_below else {}),
        **({"resynthesis_loss": settings_of(loss)} if loss.weight else {}),
    }


def _inputs(config: Config, _split: str) -> tuple[Input, ...]:
    splits = (config.corpus.splits.train, config.corpus.splits.valid)
    kinds = (AUDIO, TEXT, SPEAKER) if config.resynthesis_loss.weight else (AUDIO, TEXT)
    rows = tuple(part for split in splits for part in parts_of(split, *kinds))
    features = (Input("extract_features", split) for split in config.feature_splits)
    codebook = (Input("fit_codebook"),) if config.quantizer.has_units else ()
    return (Input("prepare_corpus", parts=rows), *features, *codebook, *ssl_inputs(config))


def _check(config: Config, inputs: Mapping[str, Artifact]) -> None:
    from pipeline.asr.targets import check_targets
    from pipeline.features.size import check_num_units

    check_targets(config, inputs["prepare_corpus"])
    if config.quantizer.has_units:
        check_num_units(config, inputs["prepare_corpus"])


def _run(context: StageContext) -> dict[str, float]:
    from pipeline.runtime.imported import Imported
    from pipeline.runtime.training import run_training

    train = Imported("pipeline.training.train_joint:train_joint")
    return run_training(train, context, "train_joint")


STAGE = Stage(
    name="train_joint",
    version=9,
    settings=_settings,
    sources=ssl_sources,
    run=_run,
    inputs=_inputs,
    check=_check,
    trains=True,
    temporary=lambda config: () if config.training.keep_checkpoints else (CHECKPOINTS,),
    headline=("asr_loss", "wer", "best_epoch"),
)
