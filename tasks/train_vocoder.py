"""The unit vocoder, trained on the training split's tokens and recordings on Ray Train."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pipeline.config import Config
from pipeline.graph.stage import Stage, StageContext
from pipeline.progress import Progress
from pipeline.storage.artifacts import Artifact
from pipeline.tracking import StageRun

if TYPE_CHECKING:
    from pipeline.training.worker import Worker


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

    scores = run_workers(_train, context, "train_vocoder")
    context.output.delete("checkpoints")
    return scores


def _train(
    config: Config,
    inputs: Mapping[str, Artifact],
    output: Artifact,
    worker: "Worker",
    *,
    tracker: StageRun,
    progress: Progress,
) -> dict[str, float]:
    """What every training worker does; the leading one writes the vocoder and scores it."""
    from pipeline.training.vocoder import VocoderTraining

    training = VocoderTraining(config, inputs, worker)

    def log(step: int, losses: dict[str, float]) -> None:
        if worker.leads:
            tracker.log_metrics({f"{name}_loss": loss for name, loss in losses.items()}, step)
            values = ", ".join(f"{name} loss {loss:.3f}" for name, loss in losses.items())
            progress.update(step, config.vocoder.steps, "steps", values)

    training.run(output, log)
    scores = {}
    if worker.leads:
        scores = training.scores()
        with output.write_folder("vocoder") as folder:
            training.vocoder.cpu().save_pretrained(folder)
        tracker.flush()
    worker.barrier()
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
