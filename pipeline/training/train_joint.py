"""One joint training from the outputs of earlier stages to models, tables and figures."""

from collections.abc import Mapping

from pipeline.asr.targets import text_pieces
from pipeline.audio.utterance import Reject, rejects_to_table
from pipeline.clustering.codebook import Codebook
from pipeline.config import Config
from pipeline.features.inference import Precision
from pipeline.features.ssl import SslModel
from pipeline.log.stage_log import StageLog
from pipeline.metrics import plots
from pipeline.progress import Progress
from pipeline.storage.artifacts import Artifact
from pipeline.tokenizer.feature_mixer import FeatureMixer
from pipeline.tokenizer.unit_tokenizer import UnitTokenizer
from pipeline.training import setup
from pipeline.training.checkpoint_store import CheckpointStore
from pipeline.training.history import History
from pipeline.training.joint_model import JointModel
from pipeline.training.loop import JointTraining
from pipeline.training.speech_targets import speaker_rows
from pipeline.training.worker import Worker


def train_joint(
    config: Config,
    inputs: Mapping[str, Artifact],
    output: Artifact,
    worker: Worker,
    *,
    log: StageLog,
    progress: Progress,
) -> dict[str, float]:
    """What every training worker does; the leading one writes. Returns scores."""
    codebook = Codebook.read(inputs["fit_codebook"]) if config.quantizer.has_units else None
    pieces = text_pieces(config, inputs["prepare_corpus"])
    num_speakers = len(speaker_rows(config, inputs["prepare_corpus"]))
    ssl = setup.load_ssl(config, inputs)
    model = setup.build_model(config, pieces, ssl, codebook, num_speakers)
    data, rejects = setup.training_data(config, inputs, model.asr, worker.device)
    num_epochs = sum(phase.epochs for phase in config.training.phases)
    leading = (log, progress) if worker.leads else ()
    history = History(num_epochs, *leading)
    store = CheckpointStore(output)
    training = JointTraining(config, model, data, worker, store=store, history=history)
    scores = training.run()
    weights = training.weights()
    if worker.leads:
        # A model of its own: the trained one may be in parts, on all workers.
        ssl = setup.load_ssl(config, inputs)
        trained = setup.build_model(config, pieces, ssl, codebook, num_speakers)
        trained.load_state_dict(weights)
        export(trained, ssl, rejects, output, config.features.precision)
        _log_figures(history, log)
    worker.barrier()
    return {**scores, "rejected_utterances": float(len(rejects))}


def export(
    model: JointModel,
    ssl: SslModel,
    rejects: list[Reject],
    output: Artifact,
    precision: Precision = "auto",
) -> None:
    """Write `asr/`, `tokenizer/` (or `features/` without a codebook) and `rejects.parquet`.

    `ssl` is the SSL model that training began with, used if no phase fine-tunes it; the tokenizer
    will compute in `precision`.
    """
    model.eval().cpu()
    with output.write_folder("asr") as folder:
        model.asr.save_pretrained(folder)
    ssl = model.ssl if model.ssl is not None else ssl
    mixer = FeatureMixer(ssl, model.layers, model.mix, model.windowing, precision)
    if model.quantizer is None:
        with output.write_folder("features") as folder:
            mixer.save_pretrained(folder)
    else:
        with output.write_folder("tokenizer") as folder:
            UnitTokenizer(mixer, model.quantizer.centroids_KD).save_pretrained(folder)
    output.write_table("rejects.parquet", rejects_to_table(rejects))


def _log_figures(history: History, log: StageLog) -> None:
    """Plots, for who follows the training."""
    log.figure(plots.learning_curves(history.rows), "learning_curves.png")
    log.figure(plots.layer_weights(history.rows), "layer_weights.png")
    if history.counts_K is not None:
        counts_K = history.counts_K.cpu().numpy()
        log.figure(plots.codebook_usage(counts_K), "codebook_usage.png")
