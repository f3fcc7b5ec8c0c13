"""What a variant has stored of a test split to look at and to listen to: texts, units, resynthesis."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

import numpy as np
import pyarrow.compute as pc

from pipeline.audio.decode import decode
from pipeline.audio.frame_grid import FrameGrid
from pipeline.audio.utterance import Segment
from pipeline.corpus.read_outputs import read_tokens, tokenizer_grid
from pipeline.graph.graph import Member
from pipeline.metrics.word_errors import SEARCH
from pipeline.report.spectrogram import Sound, unit_segments
from pipeline.report.variant import Variant
from pipeline.storage.artifacts import Artifact

AUDIO, WAV = "audio/", ".wav"
# Of the kinds of speech that `evaluate_resynthesis` has heard.
RESYNTHESIS = "resynthesis"

# By utterance, the reference and the hypothesis.
Texts = Mapping[str, Sequence[str]]


@dataclass
class Heard:
    """Of each utterance what there is; that of one training, if the variant has several.

    `texts` were recognised in the recordings, `texts_of_resynthesis` in what was made of them; `audio`
    are the addresses of the resynthesis that is kept.
    """

    variant: Variant
    texts: Texts = field(default_factory=dict)
    units: Mapping[str, np.ndarray] = field(default_factory=dict)
    grid: FrameGrid | None = None
    audio: Mapping[str, str] = field(default_factory=dict)
    texts_of_resynthesis: Texts = field(default_factory=dict)

    def segments(self, utt_id: str) -> list[Segment]:
        """The units of an utterance in time."""
        if self.grid is None or utt_id not in self.units:
            return []
        return unit_segments(self.units[utt_id], self.grid)

    def sound(self, utt_id: str) -> Sound | None:
        """The resynthesis of an utterance, if it is kept and can be read."""
        if utt_id not in self.audio:
            return None
        return self.variant.read(
            f"the resynthesis of {utt_id}", partial(_sound, self.audio[utt_id])
        )


def heard(variant: Variant, split: str) -> Heard:
    """What there is of `split`; what cannot be read becomes a note of the variant."""
    found = Heard(variant)
    member = variant.shown(split)
    if scored := variant.made(member, f"evaluate_asr/{split}"):
        hypotheses = partial(_texts, scored.artifact, "hypotheses.parquet")
        found.texts = variant.read(f"the hypotheses of {scored.label}", hypotheses) or {}
    if tokens := variant.made(member, f"tokenize_corpus/{split}"):
        units = partial(read_tokens, tokens.artifact, split)
        found.units = variant.read(f"the tokens of {tokens.label}", units) or {}
        grid = partial(tokenizer_grid, tokens.input_artifacts["train_joint"])
        found.grid = variant.read("the frames of the tokens", grid)
    if made := variant.made(member, f"evaluate_resynthesis/{split}"):
        found.audio = _audio(made.artifact)
        found.texts_of_resynthesis = _texts_of_resynthesis(variant, member, split)
    return found


def _texts_of_resynthesis(variant: Variant, member: Member, split: str) -> Texts:
    """What the judge of all variants heard, or else the variant's own recogniser."""
    for stage in ("judge_resynthesis", "evaluate_resynthesis"):
        if node := variant.made(member, f"{stage}/{split}"):
            read = partial(_texts, node.artifact, "heard.parquet")
            if texts := variant.read(f"the texts of {node.label}", read):
                return texts
    return {}


def _texts(output: Artifact, name: str) -> Texts:
    """What the table holds of each utterance: of the search that is scored, and of resynthesis.

    The texts are those that were compared, which a judge may have normalized; older tables lack them.
    """
    table = output.read_table(name)
    for column, value in (("search", SEARCH), ("speech", RESYNTHESIS)):
        if column in table.column_names:
            table = table.filter(pc.field(column) == value)
    compared = "compared_" if "compared_reference" in table.column_names else ""
    names = ("utt_id", f"{compared}reference", f"{compared}hypothesis")
    columns = (table[name].to_pylist() for name in names)
    return {utt_id: texts for utt_id, *texts in zip(*columns, strict=True)}


def _audio(output: Artifact) -> dict[str, str]:
    """The addresses of the speech."""
    return {
        name.removeprefix(AUDIO).removesuffix(WAV): f"{output.uri}/{name}"
        for name in output.names("audio")
        if name.endswith(WAV)
    }


def _sound(address: str) -> Sound:
    samples_SC, sample_rate_hz = decode(address)
    return Sound(samples_SC.mean(axis=1), sample_rate_hz)
