"""A language model of the trained tokenizer's units, trained on the training split on Ray Train."""

from typing import Any

from pipeline.config import Config
from pipeline.config.section import settings_of
from pipeline.corpus.parts import AUDIO, parts_of
from pipeline.graph.stage import Input, Stage, StageContext
from tasks import train_joint


def _settings(config: Config) -> dict[str, Any]:
    unit_lm = config.unit_lm
    settings = {
        **settings_of(unit_lm, {"enabled"}),
        "training": settings_of(unit_lm.training, {"checkpoint_steps", "log_steps"}),
    }
    return {"unit_lm": settings}


def _inputs(config: Config, _split: str) -> tuple[Input, ...]:
    splits = (config.corpus.splits.train, config.corpus.splits.valid)
    rows = Input("prepare_corpus", parts=parts_of(config.corpus.splits.train, AUDIO))
    units = (Input("tokenize_corpus", split) for split in splits)
    return (rows, Input("train_joint"), *units)


def _run(context: StageContext) -> dict[str, float]:
    from pipeline.runtime.imported import Imported
    from pipeline.runtime.training import run_training

    train = Imported("pipeline.training.unit_lm:train_unit_lm")
    return run_training(train, context, "train_unit_lm")


STAGE = Stage(
    name="train_unit_lm",
    version=1,
    settings=_settings,
    run=_run,
    inputs=_inputs,
    applies=lambda config: config.unit_lm.enabled and config.quantizer.has_units,
    trains=True,
    temporary=train_joint.STAGE.temporary,
    headline=("loss", "best_epoch"),
)
