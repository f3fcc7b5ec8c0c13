"""The unit vocoder, trained on the training split's tokens and recordings on Ray Train."""

from collections.abc import Mapping
from typing import Any

from pipeline.config import Config
from pipeline.corpus.parts import AUDIO, SPEAKER, parts_of
from pipeline.graph.stage import Input, Stage, StageContext
from pipeline.storage.artifacts import Artifact
from tasks import train_joint


def _settings(config: Config) -> dict[str, Any]:
    unrelated = {"enabled", "log_steps", "checkpoint_steps", "example_steps"}
    others = {"istft", "hifigan"} - {config.vocoder.generator}
    return {"vocoder": config.vocoder.model_dump(mode="json", exclude=unrelated | others)}


def _inputs(config: Config, _split: str) -> tuple[Input, ...]:
    splits = (config.corpus.splits.train, config.corpus.splits.valid)
    rows = tuple(part for split in splits for part in parts_of(split, AUDIO, SPEAKER))
    units = (Input("tokenize_corpus", split) for split in splits)
    return (Input("prepare_corpus", parts=rows), Input("train_joint"), *units)


def _check(config: Config, inputs: Mapping[str, Artifact]) -> None:
    from pipeline.vocoder.material import check_material

    check_material(config, inputs["prepare_corpus"])


def _run(context: StageContext) -> dict[str, float]:
    from pipeline.runtime.imported import Imported
    from pipeline.runtime.training import run_training

    train = Imported("pipeline.training.vocoder:train_vocoder")
    return run_training(train, context, "train_vocoder")


STAGE = Stage(
    name="train_vocoder",
    version=5,
    settings=_settings,
    run=_run,
    inputs=_inputs,
    check=_check,
    applies=lambda config: config.speaks,
    trains=True,
    temporary=train_joint.STAGE.temporary,
    headline=("mel_loss",),
)
