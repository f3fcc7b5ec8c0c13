"""The corpus as units of the trained tokenizer, in parallel over shards.

With them the copies of the training split at other speeds, if a training reads units.
"""

from typing import Any

from pipeline.config import Config
from pipeline.corpus.parts import AUDIO, parts_of
from pipeline.graph.stage import Input, Stage, StageContext


def _settings(config: Config) -> dict[str, Any]:
    layout = {"shard_utterances", "shard_seconds"}
    return config.features.model_dump(mode="json", include=layout)


def _inputs(config: Config, split: str) -> tuple[Input, ...]:
    recorded, _ = config.recorded(split)
    return (Input("prepare_corpus", parts=parts_of(recorded, AUDIO)), Input("train_joint"))


def _run(context: StageContext) -> dict[str, float]:
    from pipeline.corpus.shards import TOKENS, plan_shards
    from pipeline.corpus.speed import read_split_or_copy
    from pipeline.runtime.imported import Imported
    from pipeline.runtime.shard_pool import run_shards

    config = context.config
    utterances = read_split_or_copy(config, context.inputs["prepare_corpus"], context.split)
    shards = plan_shards(
        utterances, config.features.shard_utterances, config.features.shard_seconds, TOKENS
    )
    arguments = {
        "trained": context.inputs["train_joint"],
        "output": context.output,
        "batch_seconds": config.features.batch_seconds,
        "compiling": config.features.compile,
    }
    tokenizer = Imported("pipeline.tokenizer.shard_tokenizer:ShardTokenizer")
    run_shards(tokenizer, arguments, shards, config.cluster, context.progress)
    return _scores(context)


def _scores(context: StageContext) -> dict[str, float]:
    """How the split uses the codebook."""
    from pipeline.corpus.read_outputs import read_tokens, tokenizer_grid
    from pipeline.metrics.units import unit_statistics

    trained = context.inputs["train_joint"]
    num_units = trained.read_json("tokenizer/config.json")["num_units"]
    grid = tokenizer_grid(trained)
    units = read_tokens(context.output, context.split).values()
    statistics = unit_statistics(units, num_units, grid.frames_per_second)
    return {f"{context.split}.{name}": value for name, value in statistics.items()}


STAGE = Stage(
    name="tokenize_corpus",
    version=6,
    settings=_settings,
    run=_run,
    splits=lambda config: config.token_splits,
    inputs=_inputs,
    applies=lambda config: config.quantizer.has_units,
    cpus=1,
    workers=lambda config: config.cluster.extraction_workers,
    headline=("bit_rate",),
)
