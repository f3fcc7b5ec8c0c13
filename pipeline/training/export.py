"""What a finished training leaves: models as folders, history and rejects as tables."""

import pyarrow as pa

from pipeline.audio.utterance import Reject
from pipeline.features.ssl import SslModel
from pipeline.metrics import plots
from pipeline.storage import table_schemas
from pipeline.storage.artifacts import Artifact
from pipeline.tokenizer.feature_mixer import FeatureMixer
from pipeline.tokenizer.unit_tokenizer import UnitTokenizer
from pipeline.tracking import StageRun
from pipeline.training.history import History
from pipeline.training.joint_model import JointModel


def export(
    model: JointModel, ssl: SslModel, history: History, rejects: list[Reject], output: Artifact
) -> None:
    """Write `asr/`, `tokenizer/` (or `features/` without a codebook) and the tables.

    `ssl` is the pretrained SSL model, used if no phase fine-tunes it.
    """
    model.eval().cpu()
    with output.write_folder("asr") as folder:
        model.asr.save_pretrained(folder)
    ssl = model.ssl if model.ssl is not None else ssl
    mixer = FeatureMixer(ssl, model.layers, model.mix, model.windowing)
    if model.quantizer is None:
        with output.write_folder("features") as folder:
            mixer.save_pretrained(folder)
    else:
        with output.write_folder("tokenizer") as folder:
            UnitTokenizer(mixer, model.quantizer.centroids_KD).save_pretrained(folder)
    names = sorted({name for row in history.rows for name in row})
    columns = {name: [row.get(name) for row in history.rows] for name in names}
    output.write_table("history.parquet", pa.table(columns))
    rows = [{"utt_id": r.utt_id, "source": r.source, "reason": r.reason} for r in rejects]
    output.write_table("rejects.parquet", pa.Table.from_pylist(rows, schema=table_schemas.REJECTS))


def log_figures(history: History, output: Artifact, tracker: StageRun) -> None:
    """Plots, and the exported tokenizer itself, for the tracker's pages."""
    tracker.log_figure(plots.learning_curves(history.rows), "learning_curves.png")
    tracker.log_figure(plots.layer_weights(history.rows), "layer_weights.png")
    if history.counts_K is not None:
        counts_K = history.counts_K.cpu().numpy()
        tracker.log_figure(plots.codebook_usage(counts_K), "codebook_usage.png")
        tracker.log_tokenizer(f"{output.uri}/tokenizer")
    tracker.flush()
