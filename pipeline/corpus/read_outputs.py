"""Reading the outputs of earlier stages: utterances, tokens, and the grid of their frames."""

from collections.abc import Iterator

import numpy as np
import pyarrow.compute as pc

from pipeline.audio.frame_grid import FrameGrid
from pipeline.audio.model_grid import grid_of_saved_model
from pipeline.audio.utterance import Segment, Utterance, from_table
from pipeline.corpus.alignment.frame_labels import frame_segments
from pipeline.storage.artifacts import Artifact, ArtifactError


def read_split(corpus: Artifact, split: str) -> list[Utterance]:
    """The utterances of one split, in the order of the corpus."""
    table = corpus.read_table("corpus.parquet")
    return from_table(table.filter(pc.field("split") == split))


def read_tokens(output: Artifact, split: str) -> dict[str, np.ndarray]:
    """The units of each utterance of `split` (uint16, one for each frame), by utt_id.

    Raises:
        ArtifactError: the split has no shard.
    """
    units: dict[str, np.ndarray] = {}
    for name in output.names("tokens"):
        if name.removeprefix("tokens/").rpartition("-")[0] != split:
            continue
        table = output.read_table(name, columns=["utt_id", "units"])
        for utt_id, row in zip(table["utt_id"].to_pylist(), table["units"], strict=True):
            units[utt_id] = row.values.to_numpy()
    if not units:
        raise ArtifactError(
            f"{output.uri} holds no tokens of split '{split}': delete its manifest and run again"
        )
    return units


def read_aligned_units(
    corpus: Artifact, trained: Artifact, tokens: Artifact, split: str
) -> Iterator[tuple[Utterance, list[Segment | None], np.ndarray]]:
    """Each aligned utterance of `split`, and of each frame the segment that it lies in and the unit.

    Raises:
        ArtifactError: the split has no shard of tokens.
    """
    units, grid = read_tokens(tokens, split), tokenizer_grid(trained)
    for utterance in read_split(corpus, split):
        if utterance.alignment is not None:
            units_T = units[utterance.utt_id]
            yield utterance, frame_segments(utterance.alignment, len(units_T), grid), units_T


def tokenizer_grid(trained: Artifact) -> FrameGrid:
    """The frame grid of a trained tokenizer; `trained` is an output of train_joint."""
    return grid_of_saved_model(trained.read_json("tokenizer/ssl/config.json"))
