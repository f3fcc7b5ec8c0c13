"""The unit vocoder, trained on the training split's tokens and recordings on Ray Train."""

from typing import Any

from pipeline.config import Config
from pipeline.graph.stage import Stage, StageContext


def _settings(config: Config) -> dict[str, Any]:
    unrelated = {"enabled", "log_steps", "checkpoint_steps"}
    return {
        "vocoder": config.vocoder.model_dump(mode="json", exclude=unrelated),
        "splits": [config.corpus.splits.train, config.corpus.splits.valid],
    }


def _applies(config: Config) -> bool:
    return config.vocoder.enabled and config.quantizer.has_units


def _run(context: StageContext) -> dict[str, float]:
    from pipeline.runtime.train import run_workers

    settings = {
        "config": context.config.model_dump(mode="json"),
        "output": context.output,
        "inputs": dict(context.inputs),
        "tracker": context.tracker,
        "progress": context.progress,
    }
    name = f"train_vocoder-{context.config.variant}"
    scores = run_workers(_train, settings, context.config.cluster, name, context.progress)
    context.output.delete("checkpoints")
    return scores


def _train(settings: dict[str, Any]) -> dict[str, float]:
    """What every training worker does; the leading one writes the vocoder and scores it."""
    from pipeline.runtime.train import worker
    from pipeline.training.vocoder import VocoderTraining

    config = Config.model_validate(settings["config"])
    this_worker = worker(settings)
    training = VocoderTraining(config, settings["inputs"], this_worker)
    tracker, progress = settings["tracker"], settings["progress"]

    def log(step: int, losses: dict[str, float]) -> None:
        if this_worker.leads:
            tracker.log_metrics({f"{name}_loss": loss for name, loss in losses.items()}, step)
            values = ", ".join(f"{name} loss {loss:.3f}" for name, loss in losses.items())
            progress.update(step, config.vocoder.steps, "steps", values)

    training.run(settings["output"], log)
    scores = {}
    if this_worker.leads:
        scores = training.scores()
        with settings["output"].write_folder("vocoder") as folder:
            training.vocoder.cpu().save_pretrained(folder)
        tracker.flush()
    this_worker.barrier()
    return scores


STAGE = Stage(
    name="train_vocoder",
    version=1,
    settings=_settings,
    run=_run,
    inputs=lambda _config: ("prepare_corpus", "train_joint", "tokenize_corpus"),
    applies=_applies,
    workers=lambda config: config.cluster.training_workers,
    headline=("mel_loss",),
)
