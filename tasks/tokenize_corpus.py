"""The corpus as units of the trained tokenizer, in parallel over shards."""

from typing import Any

from pipeline.config import Config
from pipeline.graph.stage import Stage, StageContext


def _settings(config: Config) -> dict[str, Any]:
    layout = {"shard_utterances", "shard_seconds"}
    return {
        "splits": list(config.corpus.splits.names),
        **config.features.model_dump(mode="json", include=layout),
    }


def _run(context: StageContext) -> dict[str, float]:
    from pipeline.audio.utterance import from_table
    from pipeline.features.extraction import plan_shards
    from pipeline.runtime.shard_pool import run_shards
    from pipeline.tokenizer.shard_tokenizer import FOLDER, ShardTokenizer

    config = context.config
    utterances = from_table(context.inputs["prepare_corpus"].read_table("corpus.parquet"))
    shards = plan_shards(
        utterances, config.features.shard_utterances, config.features.shard_seconds, FOLDER
    )
    arguments = {
        "trained": context.inputs["train_joint"],
        "output": context.output,
        "batch_seconds": config.features.batch_seconds,
    }
    run_shards(ShardTokenizer, arguments, shards, config.cluster, context.progress)
    return _scores(context)


def _scores(context: StageContext) -> dict[str, float]:
    """How each split uses the codebook."""
    from pipeline.corpus.read_outputs import read_tokens, tokenizer_grid
    from pipeline.metrics.units import unit_statistics

    trained, rate_hz = context.inputs["train_joint"], context.config.corpus.sample_rate_hz
    num_units = trained.read_json("tokenizer/config.json")["num_units"]
    grid = tokenizer_grid(trained, rate_hz)
    scores: dict[str, float] = {}
    for split in context.config.corpus.splits.names:
        units = read_tokens(context.output, split).values()
        statistics = unit_statistics(units, num_units, grid.frames_per_second)
        scores |= {f"{split}.{name}": value for name, value in statistics.items()}
    return scores


STAGE = Stage(
    name="tokenize_corpus",
    version=4,
    settings=_settings,
    run=_run,
    inputs=lambda _config: ("prepare_corpus", "train_joint"),
    applies=lambda config: config.quantizer.has_units,
    workers=lambda config: config.cluster.extraction_workers,
    headline=("bit_rate",),
)
