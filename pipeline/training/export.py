"""What a finished training leaves: models as folders, history and rejects as tables."""

import pyarrow as pa

from pipeline.audio.utterance import Reject
from pipeline.features.ssl import SslModel
from pipeline.storage import table_schemas
from pipeline.storage.artifacts import Artifact
from pipeline.tokenizer.feature_mixer import FeatureMixer
from pipeline.tokenizer.unit_tokenizer import UnitTokenizer
from pipeline.training.history import History
from pipeline.training.joint_model import JointModel


def export(
    model: JointModel, ssl: SslModel, history: History, rejects: list[Reject], output: Artifact
) -> None:
    """Write `asr/`, `tokenizer/` (or `features/` without a codebook) and the tables.

    `ssl` is the SSL model as it came, used where the joint model has none of its own.
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
