"""Reading the outputs of earlier stages: utterances, tokens, and the grid of their frames."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from pipeline.audio.frame_grid import FrameGrid
from pipeline.audio.model_grid import grid_of_saved_model
from pipeline.audio.utterance import Segment, Utterance, from_table
from pipeline.corpus.alignment.frame_labels import NO_SEGMENT, frame_segments, frame_spans
from pipeline.read_ahead import ahead
from pipeline.storage import table_schemas
from pipeline.storage.artifacts import Artifact, ArtifactError

# Of tokens that are in memory at once, two bytes each, and of a corpus's rows.
MOST_FRAMES = 100_000_000
ROWS = 1024
# Threads that read shards, and batches of a corpus that are ready before they are counted.
READERS = 2
BATCHES_AHEAD = 2
READ_BYTES = 1 << 20
CORPUS = "corpus.parquet"
# What Parquet calls the labels of alignments.
LABELS = "alignment.list.element.label"


def read_split(
    corpus: Artifact, split: str, *, aligned: bool = False, only: Sequence[str] | None = None
) -> list[Utterance]:
    """The utterances of one split, or `only` those of some ids, in the order of the corpus.

    Their alignments are most of the corpus in memory, some hundred segments each: without `aligned` they
    are not read, and `alignment` is None.
    """
    columns = [name for name in table_schemas.CORPUS.names if aligned or name != "alignment"]
    utterances: list[Utterance] = []
    with corpus.read(CORPUS) as file:
        for batch in pq.ParquetFile(file).iter_batches(ROWS, columns=columns):
            rows = batch.filter(pc.equal(batch["split"], split))
            if only is not None:
                rows = rows.filter(pc.is_in(rows["utt_id"], pa.array(only, pa.string())))
            plain = (Utterance(**row) for row in rows.to_pylist())
            utterances += from_table(rows) if aligned else plain
    return utterances


def read_tokens(output: Artifact, split: str) -> dict[str, np.ndarray]:
    """The units of each utterance of `split` (uint16, one for each frame), by utt_id.

    `output` is of tokenize_corpus, or of prepare_corpus for a corpus of tokens. That one has the shards
    as others split the corpus, and in a fold its utterances have other splits.

    Raises:
        ArtifactError: the split has no shard.
    """
    if not output.exists(CORPUS):
        return {utt_id: row for shard in _shards(output, split) for utt_id, row in shard.items()}
    of_split = {utterance.utt_id for utterance in read_split(output, split)}
    found: dict[str, np.ndarray] = {}
    for shard in _shards(output, split, of_all=True):
        found |= {utt_id: row for utt_id, row in shard.items() if utt_id in of_split}
        if len(found) == len(of_split):  # outside folds, once the split's own shards are read
            break
    return found


def _shards(
    output: Artifact, split: str, *, of_all: bool = False
) -> Iterator[dict[str, np.ndarray]]:
    """The units of each shard of `split`, then if wanted of all other splits, by utt_id."""
    found = False
    others = {name: _split_of(name) != split for name in output.names("tokens")}
    names = [name for name, of_other in others.items() if of_all or not of_other]
    names.sort(key=lambda name: others[name])
    for shard in ahead(names, partial(_shard, output), threads=READERS):
        yield shard
        found = found or bool(shard)
    if not found:
        raise ArtifactError(
            f"{output.uri} holds no tokens of split '{split}': delete its manifest and run again"
        )


def _shard(output: Artifact, name: str) -> dict[str, np.ndarray]:
    """The units of each utterance of one shard, by utt_id."""
    rows: dict[str, np.ndarray] = {}
    with output.read(name) as file:
        for batch in pq.ParquetFile(file).iter_batches(columns=["utt_id", "units"]):
            units_F, offsets = batch["units"].values.to_numpy(), batch["units"].offsets.to_pylist()
            parts = (units_F[first:end] for first, end in pairwise(offsets))
            rows |= zip(batch["utt_id"].to_pylist(), parts, strict=True)
    return rows


def _split_of(shard: str) -> str:
    return shard.removeprefix("tokens/").rpartition("-")[0]


def read_aligned_units(
    corpus: Artifact, trained: Artifact, tokens: Artifact, split: str
) -> Iterator[tuple[Utterance, list[Segment | None], np.ndarray]]:
    """Each aligned utterance of `split`, and of each frame the segment that it lies in and the unit.

    Raises:
        ArtifactError: the split has no shard of tokens.
    """
    units, grid = read_tokens(tokens, split), tokenizer_grid(trained)
    for utterance in read_split(corpus, split, aligned=True):
        if utterance.alignment is not None:
            units_T = units[utterance.utt_id]
            yield utterance, frame_segments(utterance.alignment, len(units_T), grid), units_T


@dataclass(frozen=True)
class AlignedFrames:
    """The frames of some aligned utterances, one utterance after another, in N spans of one label.

    Attributes:
        labels: the labels that occur, and last "", that of a frame in no segment.
        label_N: which of them each span has.
        in_segment_N: whether the span is a segment's.
        num_frames_N: how many frames the span has, which may be none.
        units_F: the unit of each frame.
    """

    labels: list[str]
    label_N: NDArray[np.int64]
    in_segment_N: NDArray[np.bool_]
    num_frames_N: NDArray[np.int64]
    units_F: NDArray[np.uint16]

    @classmethod
    def of(cls, rows: pa.RecordBatch, units_B: Sequence[np.ndarray], grid: FrameGrid) -> Self:
        """Those of rows of a corpus, all of them with an alignment, and of the units of each."""
        alignment = rows["alignment"]
        segments = alignment.flatten()
        labels = segments.field("label")
        spans = frame_spans(
            segments.field("start").to_numpy(),
            segments.field("end").to_numpy(),
            alignment.value_lengths().to_numpy().astype(np.int64),
            np.array([len(row) for row in units_B], dtype=np.int64),
            grid,
        )
        code_S = np.append(labels.indices.to_numpy(), len(labels.dictionary)).astype(np.int64)
        return cls(
            [*labels.dictionary.to_pylist(), ""],
            code_S[spans.segment_N],  # NO_SEGMENT is the last
            spans.segment_N != NO_SEGMENT,
            spans.num_frames_N,
            np.concatenate([*units_B, np.empty(0, np.uint16)]),
        )


def read_aligned_frames(
    corpus: Artifact, trained: Artifact, tokens: Artifact, split: str
) -> Iterator[AlignedFrames]:
    """The frames of all aligned utterances of `split`, some utterances at a time.

    Units are read MOST_FRAMES at a time, each time beside the whole corpus.

    Raises:
        ArtifactError: the split has no shard of tokens, or they lack an aligned utterance.
    """
    grid, missing = tokenizer_grid(trained), 0
    for number, units in enumerate(_grouped(_shards(tokens, split))):
        of_rows = partial(_frames_and_rows, units, grid)
        for frames, has_units in ahead(_aligned_rows(corpus, split), of_rows, BATCHES_AHEAD):
            missing += (len(has_units) if number == 0 else 0) - int(has_units.sum())
            yield frames
    if missing:
        raise ArtifactError(
            f"{tokens.uri} lacks {missing} aligned utterances of split '{split}': delete its "
            "manifest and run again"
        )


def _frames_and_rows(
    units: Mapping[str, np.ndarray], grid: FrameGrid, rows: pa.RecordBatch
) -> tuple[AlignedFrames, NDArray[np.bool_]]:
    """The frames of those aligned rows that have units, and which rows those are."""
    found_B = [units.get(utt_id) for utt_id in rows["utt_id"].to_pylist()]
    units_B = [row for row in found_B if row is not None]
    has_units = np.array([row is not None for row in found_B], bool)
    return AlignedFrames.of(_only(rows, has_units), units_B, grid), has_units


def _grouped(shards: Iterator[dict[str, np.ndarray]]) -> Iterator[dict[str, np.ndarray]]:
    """Shards put together, up to MOST_FRAMES or one shard more."""
    group: dict[str, np.ndarray] = {}
    num_frames = 0
    for shard in shards:
        group |= shard
        num_frames += sum(map(len, shard.values()))
        if num_frames >= MOST_FRAMES:
            yield group
            group, num_frames = {}, 0
    if group:
        yield group


def _aligned_rows(corpus: Artifact, split: str) -> Iterator[pa.RecordBatch]:
    """utt_id and alignment of the aligned utterances of one split, up to ROWS at a time."""
    columns = ["utt_id", "split", "alignment"]
    with corpus.read(CORPUS) as file:
        table = pq.ParquetFile(file, buffer_size=READ_BYTES, read_dictionary=[LABELS])
        for rows in table.iter_batches(ROWS, columns=columns):
            of_split = pc.equal(rows["split"], split).to_numpy(zero_copy_only=False)
            yield _only(
                rows, of_split & rows["alignment"].is_valid().to_numpy(zero_copy_only=False)
            )


def _only(rows: pa.RecordBatch, chosen: NDArray[np.bool_]) -> pa.RecordBatch:
    """The chosen rows; all of them are not copied."""
    return rows if chosen.all() else rows.filter(pa.array(chosen))


def tokenizer_grid(trained: Artifact) -> FrameGrid:
    """The frame grid of a trained tokenizer; `trained` is an output of train_joint."""
    return grid_of_saved_model(trained.read_json("tokenizer/ssl/config.json"))


def tokens_in(inputs: Mapping[str, Artifact], split: str) -> Artifact:
    """Where a stage finds the tokens of `split`: with a corpus of tokens, in the prepared corpus."""
    return inputs.get(f"tokenize_corpus/{split}", inputs["prepare_corpus"])
