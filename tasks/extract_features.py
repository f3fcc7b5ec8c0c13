"""Hidden states of the SSL model, in parallel over shards.

The copies of the training split at other speeds are splits of their own, if a phase reads features.
So what is stored of the others does not depend on `training.speeds`.

Nothing reads features of the test splits: what is evaluated comes from the trained tokenizer.
"""

from collections.abc import Mapping
from typing import Any

from pipeline.config import Config
from pipeline.corpus.parts import AUDIO, parts_of
from pipeline.graph.ssl_inputs import TRAINING, ssl_inputs, ssl_sources
from pipeline.graph.stage import Estimate, Input, Stage, StageContext
from pipeline.storage.artifacts import Artifact


def _settings(config: Config) -> dict[str, Any]:
    # No feature depends on the batch it was computed in, or on compilation.
    left_out = {"batch_seconds", "compile"}
    return {"features": config.features.model_dump(mode="json", exclude=left_out)}


def _inputs(config: Config, split: str) -> tuple[Input, ...]:
    recorded, _ = config.recorded(split)
    return (Input("prepare_corpus", parts=parts_of(recorded, AUDIO)), *ssl_inputs(config))


def _estimate(config: Config, split: str, outputs: Mapping[str, Artifact]) -> Estimate:
    """From the prepared corpus, or else from what is known of it before."""
    from pipeline.corpus.durations import durations_by_split
    from pipeline.corpus.expected_durations import Durations
    from pipeline.corpus.listing import listings_in
    from pipeline.features.size import bytes_per_frame, grid_of, num_stored_frames

    known = durations_by_split(
        config.corpus, outputs["prepare_corpus"], listings_in(config.storage)
    )
    recorded, speed = config.recorded(split)
    durations = known.get(recorded, Durations([]))
    seconds = [each / speed for each in durations.seconds]
    num_frames = num_stored_frames(seconds, config.features, grid_of(config))
    hours = sum(seconds) / 3600
    return Estimate(
        float(sum(seconds)),
        num_frames,
        num_frames * bytes_per_frame(config.features, config.ssl),
        grows_with={"features.layers": len(config.features.layers), "hours of audio": hours},
        advice="a sample (features.sample_frames_per_second)",
        sampled=durations.source == "sample",
    )


def _run(context: StageContext) -> dict[str, float]:
    from pipeline.corpus.shards import plan_shards
    from pipeline.corpus.speed import read_split_or_copy
    from pipeline.runtime.imported import Imported
    from pipeline.runtime.shard_pool import run_shards

    config = context.config
    utterances = read_split_or_copy(config, context.inputs["prepare_corpus"], context.split)
    shards = plan_shards(
        utterances, config.features.shard_utterances, config.features.shard_seconds
    )
    arguments = {
        "ssl": config.ssl,
        "features": config.features,
        "output": context.output,
        "finetuned": context.inputs.get(TRAINING),
    }
    # Longest utterances first: what does not fit into memory fails at once instead of after days.
    writer = Imported("pipeline.features.extraction:ShardWriter")
    written = run_shards(writer, arguments, shards[::-1], config.cluster, context.progress)
    counters = {"utterances": "rows", "frames": "frames", "bytes": "bytes"}
    return {
        name: float(sum(shard[counter] for shard in written)) for name, counter in counters.items()
    }


STAGE = Stage(
    name="extract_features",
    version=5,
    settings=_settings,
    sources=ssl_sources,
    run=_run,
    splits=lambda config: config.feature_splits,
    inputs=_inputs,
    estimate=_estimate,
    cpus=1,
    workers=lambda config: config.cluster.extraction_workers,
    headline=("frames",),
)
