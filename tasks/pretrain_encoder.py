"""A small WavLM for machines that reach no model hub, by masked prediction of MFCC clusters.

Not part of the default graph: name `tasks.pretrain_encoder` in `extra_stages`, as
`configs/pretrain_encoder.yaml` does, and set `ssl.model` to the folder `encoder/` that it writes.
"""

from typing import Any

from pipeline.config import Config
from pipeline.corpus.parts import ALIGNMENT, AUDIO, parts_of
from pipeline.graph.stage import Input, Stage, StageContext


def _settings(config: Config) -> dict[str, Any]:
    return {"pretraining": config.pretraining.model_dump(mode="json")}


def _inputs(config: Config, _split: str) -> tuple[Input, ...]:
    splits = config.corpus.splits
    rows = (*parts_of(splits.train, AUDIO), *parts_of(splits.valid, AUDIO, ALIGNMENT))
    return (Input("prepare_corpus", parts=rows),)


def _run(context: StageContext) -> dict[str, float]:
    """Write `encoder/`, a transformers folder; return the scores on the validation split."""
    from pipeline.corpus.read_outputs import read_split
    from pipeline.training.pretraining import pretrain_encoder

    corpus, splits = context.inputs["prepare_corpus"], context.config.corpus.splits
    encoder, scores = pretrain_encoder(
        read_split(corpus, splits.train),
        read_split(corpus, splits.valid, aligned=True),
        context.config.pretraining,
        context.progress,
    )
    with context.output.write_folder("encoder") as folder:
        encoder.save_pretrained(folder)
    return scores


STAGE = Stage(
    name="pretrain_encoder",
    version=2,
    settings=_settings,
    run=_run,
    inputs=_inputs,
    cpus=2,
    headline=("masked_accuracy",),
)
