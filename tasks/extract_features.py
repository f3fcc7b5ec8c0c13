"""Hidden states of the frozen SSL model, in parallel over shards."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pipeline.config import Config
from pipeline.features.fingerprint import ssl_fingerprint
from pipeline.graph.stage import Estimate, Stage, StageContext
from pipeline.storage.artifacts import Artifact

BYTES_PER_VALUE = 2  # float16; noise-like values do not compress


def _settings(config: Config) -> dict[str, Any]:
    # How audio was cut into batches changes no feature.
    features = config.features.model_dump(mode="json", exclude={"batch_seconds"})
    return {"ssl": ssl_fingerprint(config.ssl), "features": features}


def _estimate(config: Config, inputs: Mapping[str, Artifact]) -> Estimate:
    """Hours, frames and bytes, from the corpus where it stands, else as its manifest tells them."""
    from pipeline.audio.frame_grid import SSL_GRID
    from pipeline.corpus.adapter import adapter_of
    from pipeline.features.frame_sample import sample_size

    corpus = inputs["prepare_corpus"]
    if corpus.exists("corpus.parquet"):
        column = corpus.read_table("corpus.parquet", columns=["duration"])["duration"]
        seconds = column.to_pylist()
    else:
        seconds = adapter_of(config.corpus).durations(config.corpus)
    rate = SSL_GRID.sample_rate_hz
    counts = [SSL_GRID.num_frames(round(one * rate)) for one in seconds]
    sample = config.features.sample_frames_per_second
    if sample is not None:
        counts = [sample_size(count, sample / SSL_GRID.frames_per_second) for count in counts]
    num_frames, num_layers = sum(counts), len(config.features.layers)
    values = num_frames * num_layers * _hidden_size(config)
    return Estimate(
        float(sum(seconds)),
        num_frames,
        values * BYTES_PER_VALUE,
        grows_with={"features.layers": num_layers, "hours of audio": sum(seconds) / 3600},
        advice="a sample (features.sample_frames_per_second)",
    )


def _hidden_size(config: Config) -> int:
    """As the folder says, or as the published hub models of these families are sized."""
    file = Path(config.ssl.source) / "config.json"
    if file.is_file():
        return int(json.loads(file.read_text(encoding="utf-8"))["hidden_size"])
    sizes = {"xlarge": 1280, "large": 1024}
    return next((size for name, size in sizes.items() if name in config.ssl.model), 768)


def _run(context: StageContext) -> dict[str, float]:
    from pipeline.audio.utterance import from_table
    from pipeline.features.extraction import ShardWriter, plan_shards
    from pipeline.runtime.shard_pool import run_shards

    config = context.config
    utterances = from_table(context.inputs["prepare_corpus"].read_table("corpus.parquet"))
    shards = plan_shards(
        utterances, config.features.shard_utterances, config.features.shard_seconds
    )
    arguments = {
        "ssl": config.ssl,
        "features": config.features,
        "output": context.output,
    }
    # Longest utterances first: what does not fit into memory fails at once, and not after days.
    written = run_shards(ShardWriter, arguments, shards[::-1], config.cluster, context.progress)
    return {
        "utterances": float(sum(shard["rows"] for shard in written)),
        "frames": float(sum(shard["frames"] for shard in written)),
        "bytes": float(sum(shard["bytes"] for shard in written)),
    }


STAGE = Stage(
    name="extract_features",
    version=4,
    settings=_settings,
    run=_run,
    inputs=lambda _config: ("prepare_corpus",),
    estimate=_estimate,
    workers=lambda config: config.cluster.extraction_workers,
    headline=("frames",),
)
