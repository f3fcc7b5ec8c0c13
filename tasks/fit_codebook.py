"""Ordinary k-means over one stored layer of the training split: where the quantizer starts."""

from typing import Any

from pipeline.config import Config
from pipeline.stage import Stage, StageContext


def _settings(config: Config) -> dict[str, Any]:
    return {
        "codebook": config.codebook.model_dump(mode="json"),
        "split": config.corpus.splits.train,
    }


def _run(context: StageContext) -> dict[str, float]:
    """Write `codebook.safetensors`: "centroids" (K x D) and "calibration_frames" (N x D)."""
    from safetensors.torch import save

    from pipeline.runtime.codebook import Frames, fit_codebook

    config = context.config
    features, split = context.inputs["extract_features"], config.corpus.splits.train
    frames = Frames.of_split(features, split, config.codebook.layer)
    fitted = fit_codebook(frames, config.codebook, config.cluster, context.say)
    tensors = {
        "centroids": fitted.fit.centroids_KD.contiguous(),
        "calibration_frames": fitted.calibration_ND.contiguous(),
    }
    with context.output.write("codebook.safetensors") as file:
        file.write(save(tensors))
    sums = fitted.fit.sums
    return {
        "mean_squared_distance": sums.mean_squared_distance,
        "num_frames": float(sums.num_frames),
        "sampled_frames": float(fitted.num_sampled),
        "passes": float(fitted.fit.num_passes),
        "used_units": float((sums.counts_K > 0).sum()),
    }


STAGE = Stage(
    name="fit_codebook",
    version=1,
    settings=_settings,
    run=_run,
    inputs=lambda _config: ("extract_features",),
    applies=lambda config: config.quantizer.kind != "none",
    worker_cpus=lambda config: config.cluster.codebook_workers * config.cluster.cpus_per_worker,
)
