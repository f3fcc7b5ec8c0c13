"""Ordinary k-means over one stored layer of the training split: where the quantizer starts."""

from typing import Any

from pipeline.config import Config
from pipeline.graph.stage import Input, Stage, StageContext


def _settings(config: Config) -> dict[str, Any]:
    return {"codebook": config.codebook.model_dump(mode="json")}


def _run(context: StageContext) -> dict[str, float]:
    from pipeline.features.stored_frames import StoredFrames
    from pipeline.runtime.fit_codebook import fit_codebook

    config, split = context.config, context.config.corpus.splits.train
    features = context.inputs[f"extract_features/{split}"]
    frames = StoredFrames.of_split(features, split, config.codebook.layer)
    fitted = fit_codebook(frames, config.codebook, config.cluster, context.output, context.progress)
    fitted.write(context.output)
    return fitted.scores


STAGE = Stage(
    name="fit_codebook",
    version=3,
    settings=_settings,
    run=_run,
    inputs=lambda config, _split: (Input("extract_features", config.corpus.splits.train),),
    applies=lambda config: config.quantizer.has_units,
    workers=lambda config: config.cluster.codebook_workers,
    headline=("mean_squared_distance", "passes"),
)
