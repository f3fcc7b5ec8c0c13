"""Columns of the Parquet tables that stages exchange. Times are in seconds."""

import pyarrow as pa
import pyarrow.compute as pc

COMPRESSION = "zstd"
FRAME_INDEX = "frame_index"

ALIGNMENT = pa.list_(
    pa.struct([("start", pa.float64()), ("end", pa.float64()), ("label", pa.string())])
)

CORPUS = pa.schema(
    [
        pa.field("utt_id", pa.string(), nullable=False),
        pa.field("split", pa.string(), nullable=False),
        pa.field("audio", pa.string(), nullable=False),
        pa.field("offset", pa.float64(), nullable=False),
        pa.field("duration", pa.float64(), nullable=False),
        pa.field("speaker", pa.string(), nullable=False),
        pa.field("text", pa.string(), nullable=False),
        pa.field("alignment", ALIGNMENT),
    ]
)

REJECTS = pa.schema(
    [
        pa.field("utt_id", pa.string()),
        pa.field("source", pa.string(), nullable=False),
        pa.field("reason", pa.string(), nullable=False),
    ]
)

TOKENS = pa.schema(
    [
        pa.field("utt_id", pa.string(), nullable=False),
        pa.field("split", pa.string(), nullable=False),
        pa.field("units", pa.list_(pa.uint16()), nullable=False),
        pa.field("num_frames", pa.int32(), nullable=False),
    ]
)

HYPOTHESES = pa.schema(
    [
        pa.field("utt_id", pa.string(), nullable=False),
        pa.field("split", pa.string(), nullable=False),
        pa.field("search", pa.string(), nullable=False),
        pa.field("reference", pa.string(), nullable=False),
        pa.field("hypothesis", pa.string(), nullable=False),
        pa.field("substitutions", pa.int32(), nullable=False),
        pa.field("insertions", pa.int32(), nullable=False),
        pa.field("deletions", pa.int32(), nullable=False),
    ]
)

RESYNTHESIS = pa.schema(
    [
        pa.field("utt_id", pa.string(), nullable=False),
        pa.field("split", pa.string(), nullable=False),
        pa.field("reference", pa.string(), nullable=False),
        pa.field("hypothesis", pa.string(), nullable=False),
        pa.field("mel_cepstral_distortion_db", pa.float64()),
        pa.field("f0_error_cents", pa.float64()),
    ]
)


def layer_column(layer: int) -> str:
    """The features column of hidden layer `layer`: `layer_00` is the first block's input."""
    return f"layer_{layer:02d}"


def features(layers: tuple[int, ...], *, sampled: bool = False) -> pa.Schema:
    """One row an utterance; each layer's column holds frames x dim float16, row by row.

    `num_frames` counts the utterance's frames. Where only a sample of them is stored, `frame_index`
    says which.
    """
    frames = [pa.field(layer_column(layer), pa.list_(pa.list_(pa.float16()))) for layer in layers]
    index = [pa.field(FRAME_INDEX, pa.list_(pa.int32()), nullable=False)] * sampled
    return pa.schema(
        [
            pa.field("utt_id", pa.string(), nullable=False),
            pa.field("split", pa.string(), nullable=False),
            pa.field("num_frames", pa.int32(), nullable=False),
            *index,
            *frames,
        ]
    )


def num_stored_frames(table: pa.Table) -> int:
    """How many frames the rows of a features or tokens table hold."""
    if FRAME_INDEX in table.column_names:
        return sum(pc.list_value_length(table[FRAME_INDEX]).to_pylist())
    return sum(table["num_frames"].to_pylist())
