"""ASR from stored tokens on Ray Train: what a token corpus is worth without audio and SSL model."""

from typing import Any

from pipeline.config import Config
from pipeline.config.section import settings_of
from pipeline.graph.stage import Input, Stage, StageContext
from pipeline.graph.token_inputs import token_inputs
from tasks import train_joint

# Keys of `training` that this training has no use for, or has in `token_asr`.
_OF_JOINT_TRAINING = {
    *train_joint.MEANS,
    "seeds",
    "phases",
    "train_front_end",
    "remember_front_end",
    "ssl_dropout",
}


def _settings(config: Config) -> dict[str, Any]:
    own = config.for_token_asr
    return {
        "token_asr": settings_of(own.token_asr, {"enabled"}),
        "training": {**settings_of(own.training, _OF_JOINT_TRAINING), "seed": own.training.seed},
    }


def _inputs(config: Config, _split: str) -> tuple[Input, ...]:
    splits = config.corpus.splits
    return token_inputs(config, splits.train, splits.valid, *config.speed_copies)


def _run(context: StageContext) -> dict[str, float]:
    from pipeline.runtime.imported import Imported
    from pipeline.runtime.training import run_training

    train = Imported("pipeline.training.train_token_asr:train_token_asr")
    return run_training(train, context, "train_token_asr")


STAGE = Stage(
    name="train_token_asr",
    version=2,
    settings=_settings,
    run=_run,
    inputs=_inputs,
    applies=lambda config: config.has_token_asr,
    without_audio=True,
    trains=True,
    temporary=train_joint.STAGE.temporary,
    headline=("asr_loss", "wer", "best_epoch"),
)
