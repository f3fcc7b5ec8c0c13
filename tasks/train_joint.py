"""Joint training of codebook, layer weights, SSL model and ASR model on Ray Train."""

from typing import Any

from pipeline.config import Config
from pipeline.features.fingerprint import ssl_fingerprint
from pipeline.graph.stage import Stage, StageContext
from pipeline.storage.artifacts import CHECKPOINTS


def _settings(config: Config) -> dict[str, Any]:
    means = {"gradient_checkpointing", "checkpoint_steps", "keep_checkpoints", "log_steps"}
    return {
        "quantizer": config.quantizer.settings(),
        **config.model_dump(mode="json", include={"asr", "training"}, exclude={"training": means}),
        "layers": list(config.used_layers),
        "ssl": ssl_fingerprint(config.ssl),
    }


def _inputs(config: Config) -> tuple[str, ...]:
    codebook = ("fit_codebook",) if config.quantizer.has_units else ()
    return ("prepare_corpus", "extract_features", *codebook)


def _run(context: StageContext) -> dict[str, float]:
    from pipeline.runtime.train import run_workers
    from pipeline.training.train_joint import train_joint

    return run_workers(train_joint, context, "train_joint")


STAGE = Stage(
    name="train_joint",
    version=5,
    settings=_settings,
    run=_run,
    inputs=_inputs,
    workers=lambda config: config.cluster.training_workers,
    temporary=lambda config: () if config.training.keep_checkpoints else (CHECKPOINTS,),
    headline=("loss", "best_epoch"),
)
