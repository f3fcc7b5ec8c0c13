"""Ordinary k-means over one stored layer of the training split: where the quantizer starts."""

from typing import Any

from pipeline.config import Config
from pipeline.graph.stage import Stage, StageContext


def _settings(config: Config) -> dict[str, Any]:
    return {
        "codebook": config.codebook.model_dump(mode="json"),
        "split": config.corpus.splits.train,
    }


def _run(context: StageContext) -> dict[str, float]:
    """Write `codebook.safetensors`: "centroids" (K x D) and "calibration_frames" (N x D)."""
    from safetensors.torch import save

    from pipeline.features.stored_frames import StoredFrames
    from pipeline.runtime.fit_codebook import fit_codebook

    config = context.config
    features, split = context.inputs["extract_features"], config.corpus.splits.train
    frames = StoredFrames.of_split(features, split, config.codebook.layer)
    fitted = fit_codebook(frames, config.codebook, config.cluster, context.output, context.progress)
    tensors = {
        "centroids": fitted.fit.centroids_KD.contiguous(),
        "calibration_frames": fitted.calibration_ND.contiguous(),
    }
    with context.output.write("codebook.safetensors") as file:
        file.write(save(tensors))
    sums = fitted.fit.sums
    return {
        "mean_squared_distance": sums.mean_squared_distance,
        "num_frames": sums.weight,
        "held_frames": float(fitted.num_held),
        "rejected_frames": float(fitted.num_rejected),
        "passes": float(fitted.fit.num_passes),
        "used_units": float((sums.weights_K > 0).sum()),
    }


STAGE = Stage(
    name="fit_codebook",
    version=2,
    settings=_settings,
    run=_run,
    inputs=lambda _config: ("extract_features",),
    applies=lambda config: config.quantizer.has_units,
    workers=lambda config: config.cluster.codebook_workers,
    headline=("mean_squared_distance", "passes"),
)
