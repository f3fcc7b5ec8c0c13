"""Joint training of codebook, layer weights, SSL model and ASR model on Ray Train."""

from typing import TYPE_CHECKING, Any

from pipeline.config import Config
from pipeline.features.fingerprint import ssl_fingerprint
from pipeline.graph.stage import Stage, StageContext
from pipeline.progress import Progress
from pipeline.storage.artifacts import Artifact
from pipeline.tracking import StageRun

if TYPE_CHECKING:
    from pipeline.training.history import History


def _settings(config: Config) -> dict[str, Any]:
    unrelated = {"training": {"gradient_checkpointing", "checkpoint_steps", "log_steps"}}
    return {
        "quantizer": config.quantizer.settings(),
        **config.model_dump(mode="json", include={"asr", "training"}, exclude=unrelated),
        "layers": list(config.used_layers),
        "ssl": ssl_fingerprint(config.ssl),
    }


def _inputs(config: Config) -> tuple[str, ...]:
    codebook = ("fit_codebook",) if config.quantizer.has_units else ()
    return ("prepare_corpus", "extract_features", *codebook)


def _run(context: StageContext) -> dict[str, float]:
    from pipeline.runtime.train import run_workers

    settings = {
        "config": context.config.model_dump(mode="json"),
        "output": context.output,
        "inputs": dict(context.inputs),
        "tracker": context.tracker,
        "progress": context.progress,
    }
    name = f"train_joint-{context.config.variant}"
    return run_workers(_train, settings, context.config.cluster, name, context.progress)


def _train(settings: dict[str, Any]) -> dict[str, float]:
    """What every training worker does; the leading one writes."""
    from pipeline.clustering.codebook import Codebook
    from pipeline.runtime.train import worker
    from pipeline.training import setup
    from pipeline.training.checkpoint_store import CheckpointStore
    from pipeline.training.export import export
    from pipeline.training.loading import loader_processes
    from pipeline.training.loop import JointTraining

    config = Config.model_validate(settings["config"])
    place = worker(settings)
    output, inputs = settings["output"], settings["inputs"]
    codebook = Codebook.read(inputs["fit_codebook"]) if "fit_codebook" in inputs else None
    pieces = setup.text_pieces(config, inputs["prepare_corpus"])
    model = setup.build_model(config, pieces, setup.load_ssl(config), codebook)
    data, rejects = setup.training_data(
        config,
        inputs["prepare_corpus"],
        inputs["extract_features"],
        model.asr,
        num_readers=max(1, loader_processes(config.cluster, place.device)),
    )
    history = _history(config, settings["tracker"], settings["progress"], leads=place.leads)
    store = CheckpointStore(output)
    training = JointTraining(config, model, data, place, store=store, history=history)
    scores = training.run()
    weights = training.weights()
    if place.leads:
        # A model of its own: the trained one may be in parts, on all workers.
        ssl = setup.load_ssl(config)
        trained = setup.build_model(config, pieces, ssl, codebook)
        trained.load_state_dict(weights)
        export(trained, ssl, history, rejects, output)
        _show(history, output, settings["tracker"])
    place.barrier()
    return {**scores, "rejected_utterances": float(len(rejects))}


def _history(config: Config, tracker: StageRun, progress: Progress, *, leads: bool) -> "History":
    from pipeline.training.history import History

    num_epochs = sum(phase.epochs for phase in config.training.phases)
    if not leads:
        return History(num_epochs)
    return History(num_epochs, tracker.log_metrics, progress)


def _show(history: "History", output: Artifact, tracker: StageRun) -> None:
    """Plots and the tokenizer itself, for the tracker's pages."""
    from pipeline.metrics import plots

    tracker.log_figure(plots.learning_curves(history.rows), "learning_curves.png")
    tracker.log_figure(plots.layer_weights(history.rows), "layer_weights.png")
    if history.counts_K is not None:
        tracker.log_figure(
            plots.codebook_usage(history.counts_K.cpu().numpy()), "codebook_usage.png"
        )
        tracker.log_tokenizer(f"{output.uri}/tokenizer")
    tracker.flush()


STAGE = Stage(
    name="train_joint",
    version=5,
    settings=_settings,
    run=_run,
    inputs=_inputs,
    workers=lambda config: config.cluster.training_workers,
    headline=("loss", "best_epoch"),
)
