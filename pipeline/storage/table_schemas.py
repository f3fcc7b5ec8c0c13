"""Columns of the Parquet tables that stages exchange. Times are in seconds."""

import pyarrow as pa
import pyarrow.compute as pc

COMPRESSION = "zstd"
FRAME_INDEX = "frame_index"

ALIGNMENT = pa.list_(
    pa.struct([("start", pa.float64()), ("end", pa.float64()), ("label", pa.string())])
)


def required(**columns: pa.DataType) -> list[pa.Field]:
    """Columns without nulls."""
    return [pa.field(name, kind, nullable=False) for name, kind in columns.items()]


_UTTERANCE = required(utt_id=pa.string(), split=pa.string())
_TEXTS = required(reference=pa.string(), hypothesis=pa.string())

CORPUS = pa.schema(
    [
        *_UTTERANCE,
        *required(audio=pa.string(), offset=pa.float64(), duration=pa.float64()),
        *required(speaker=pa.string(), text=pa.string()),
        pa.field("alignment", ALIGNMENT),
        *required(audio_version=pa.string(), audio_sha256=pa.string()),
    ]
)

# An utterance as a worker is sent it: copies at other speeds are not stored, but read by workers.
SENT = pa.schema([*CORPUS, *required(speed=pa.float64())])

REJECTS = pa.schema(
    [
        pa.field("utt_id", pa.string()),
        *required(source=pa.string(), reason=pa.string(), what=pa.string()),
    ]
)

TOKENS = pa.schema([*_UTTERANCE, *required(units=pa.list_(pa.uint16()), num_frames=pa.int32())])

HYPOTHESES = pa.schema(
    [
        *_UTTERANCE,
        *required(search=pa.string()),
        *_TEXTS,
        *required(substitutions=pa.int32(), insertions=pa.int32(), deletions=pa.int32()),
        pa.field("score", pa.float64()),
    ]
)

NBEST = pa.schema(
    [*_UTTERANCE, *required(rank=pa.int32(), hypothesis=pa.string(), score=pa.float64())]
)

UTTERANCE_SCORES = pa.schema(
    [
        *_UTTERANCE,
        *required(speaker=pa.string(), score=pa.string(), value=pa.float64(), weight=pa.float64()),
    ]
)

HEARD = pa.schema(
    [
        *_UTTERANCE,
        *required(speech=pa.string()),
        *_TEXTS,
        *required(compared_reference=pa.string(), compared_hypothesis=pa.string()),
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
    index = required(**{FRAME_INDEX: pa.list_(pa.int32())}) if sampled else []
    return pa.schema([*_UTTERANCE, *required(num_frames=pa.int32()), *index, *frames])


def num_stored_frames(table: pa.Table) -> int:
    """How many frames the rows of a features or tokens table hold."""
    if FRAME_INDEX in table.column_names:
        return sum(pc.list_value_length(table[FRAME_INDEX]).to_pylist())
    return sum(table["num_frames"].to_pylist())
