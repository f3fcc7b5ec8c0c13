"""One joint training from the outputs of earlier stages to models, tables and figures."""

from collections.abc import Mapping

from pipeline.clustering.codebook import Codebook
from pipeline.config import Config
from pipeline.progress import Progress
from pipeline.storage.artifacts import Artifact
from pipeline.tracking import StageRun
from pipeline.training import setup
from pipeline.training.checkpoint_store import CheckpointStore
from pipeline.training.export import export, log_figures
from pipeline.training.history import History
from pipeline.training.loading import loader_processes
from pipeline.training.loop import JointTraining
from pipeline.training.worker import Worker


def train_joint(
    config: Config,
    inputs: Mapping[str, Artifact],
    output: Artifact,
    worker: Worker,
    *,
    tracker: StageRun,
    progress: Progress,
) -> dict[str, float]:
    """What every training worker does; the leading one writes. Returns scores."""
    codebook = Codebook.read(inputs["fit_codebook"]) if config.quantizer.has_units else None
    pieces = setup.text_pieces(config, inputs["prepare_corpus"])
    model = setup.build_model(config, pieces, setup.load_ssl(config), codebook)
    data, rejects = setup.training_data(
        config,
        inputs["prepare_corpus"],
        inputs["extract_features"],
        model.asr,
        num_readers=max(1, loader_processes(config.cluster, worker.device)),
    )
    num_epochs = sum(phase.epochs for phase in config.training.phases)
    leading = (tracker.log_metrics, progress) if worker.leads else ()
    history = History(num_epochs, *leading)
    store = CheckpointStore(output)
    training = JointTraining(config, model, data, worker, store=store, history=history)
    scores = training.run()
    weights = training.weights()
    if worker.leads:
        # A model of its own: the trained one may be in parts, on all workers.
        ssl = setup.load_ssl(config)
        trained = setup.build_model(config, pieces, ssl, codebook)
        trained.load_state_dict(weights)
        export(trained, ssl, history, rejects, output)
        log_figures(history, output, tracker)
    worker.barrier()
    return {**scores, "rejected_utterances": float(len(rejects))}
