"""ABX errors of the units on a test split; not a default stage, as it needs the package fastabx."""

from importlib.util import find_spec
from typing import Any

from pipeline.config import Config, ConfigError
from pipeline.corpus.parts import ALIGNMENT, SPEAKER, parts_of
from pipeline.graph.stage import Input, Stage, StageContext


def _settings(config: Config) -> dict[str, Any]:
    return {"silence_labels": list(config.purity.silence_labels)}


def _inputs(_config: Config, split: str) -> tuple[Input, ...]:
    rows = Input("prepare_corpus", parts=parts_of(split, ALIGNMENT, SPEAKER))
    return (rows, Input("train_joint"), Input("tokenize_corpus", split))


def _requires(_config: Config) -> None:
    if find_spec("fastabx") is None:
        raise ConfigError(
            "extra_stages names 'tasks.abx', which needs the package fastabx, and that Python 3.12 or "
            "later: pip install 'dkm-pipeline[abx]' there, or leave the stage out"
        )


def _run(context: StageContext) -> dict[str, float]:
    from pipeline.corpus.alignment.frame_labels import labels_of
    from pipeline.corpus.read_outputs import read_aligned_units
    from pipeline.metrics.abx import AbxPhones
    from pipeline.metrics.purity import one_silence

    split, inputs = context.split, context.inputs
    phones = AbxPhones()
    for utterance, segments_T, units_T in read_aligned_units(
        inputs["prepare_corpus"], inputs["train_joint"], inputs[f"tokenize_corpus/{split}"], split
    ):
        labels_T = one_silence(labels_of(segments_T), context.config.purity)
        phones.add(utterance.speaker, segments_T, labels_T, units_T)
    errors = phones.errors()
    if not errors:
        context.progress.message(
            f"has no ABX error for {split}: it takes aligned phones, each of them more than once"
        )
    return {f"{split}.{name}": error for name, error in errors.items()}


STAGE = Stage(
    name="abx",
    version=1,
    settings=_settings,
    run=_run,
    splits=lambda config: config.corpus.splits.test,
    inputs=_inputs,
    requires=_requires,
    applies=lambda config: config.quantizer.has_units,
    cpus=1,
    headline=("abx_within_speaker", "abx_across_speakers"),
)
