"""The whole corpus as units of the trained tokenizer, in parallel over shards."""

from typing import Any

from pipeline.config import Config
from pipeline.stage import Stage, StageContext


def _settings(config: Config) -> dict[str, Any]:
    return {
        "splits": list(config.corpus.splits.names),
        "shard_utterances": config.features.shard_utterances,
    }


def _run(context: StageContext) -> dict[str, float]:
    from pipeline.data.tables import read_tokens
    from pipeline.features.extraction import plan_shards
    from pipeline.metrics.units import unit_statistics
    from pipeline.quantizer.shard_tokenizer import ShardTokenizer
    from pipeline.runtime.shards import run_shards

    config, trained = context.config, context.inputs["train_joint"]
    splits = config.corpus.splits
    run_shards(context)
    num_units = trained.read_json("tokenizer/config.json")["num_units"]
    scores: dict[str, float] = {}
    for split in splits.names:
        units = read_tokens(context.output, split)
        statistics = unit_statistics(units.values(), num_units, 50.0)
        scores |= {
            f"{split}.codebook_usage": statistics.usage_share,
            f"{split}.codebook_perplexity": statistics.perplexity,
            f"{split}.bit_rate": statistics.bits_per_second,
            f"{split}.deduplicated_bit_rate": statistics.deduplicated_bits_per_second,
        }
    return scores
