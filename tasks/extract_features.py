"""Hidden states of the frozen SSL model, in parallel over shards."""

from collections.abc import Mapping
from typing import Any

from pipeline.config import Config
from pipeline.features.fingerprint import ssl_fingerprint
from pipeline.graph.stage import Estimate, Stage, StageContext
from pipeline.storage.artifacts import Artifact


def _settings(config: Config) -> dict[str, Any]:
    # No feature depends on the batch it was computed in.
    features = config.features.model_dump(mode="json", exclude={"batch_seconds"})
    return {"ssl": ssl_fingerprint(config.ssl), "features": features}


def _estimate(config: Config, inputs: Mapping[str, Artifact]) -> Estimate:
    """From the prepared corpus, or else from the durations that the corpus's tables give."""
    from pipeline.corpus.adapter import adapter_of
    from pipeline.features.size import bytes_per_frame, num_stored_frames

    corpus = inputs["prepare_corpus"]
    if corpus.exists("corpus.parquet"):
        column = corpus.read_table("corpus.parquet", columns=["duration"])["duration"]
        seconds = column.to_pylist()
    else:
        seconds = adapter_of(config.corpus).durations(config.corpus)
    num_frames = num_stored_frames(seconds, config.features)
    hours = sum(seconds) / 3600
    return Estimate(
        float(sum(seconds)),
        num_frames,
        num_frames * bytes_per_frame(config.features, config.ssl),
        grows_with={"features.layers": len(config.features.layers), "hours of audio": hours},
        advice="a sample (features.sample_frames_per_second)",
    )


def _run(context: StageContext) -> dict[str, float]:
    from pipeline.audio.utterance import from_table
    from pipeline.features.extraction import ShardWriter, plan_shards
    from pipeline.runtime.shard_pool import run_shards

    config = context.config
    utterances = from_table(context.inputs["prepare_corpus"].read_table("corpus.parquet"))
    shards = plan_shards(
        utterances, config.features.shard_utterances, config.features.shard_seconds
    )
    arguments = {"ssl": config.ssl, "features": config.features, "output": context.output}
    # Longest utterances first: what does not fit into memory fails at once instead of after days.
    written = run_shards(ShardWriter, arguments, shards[::-1], config.cluster, context.progress)
    counters = {"utterances": "rows", "frames": "frames", "bytes": "bytes"}
    return {
        name: float(sum(shard[counter] for shard in written)) for name, counter in counters.items()
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
