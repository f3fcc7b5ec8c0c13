"""Some utterances of each test split to listen to: what was said, what became of it, what was heard."""

import base64
import io
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import pyarrow.compute as pc
from markupsafe import Markup

from pipeline.audio.decode import read_utterance, write_audio
from pipeline.audio.utterance import Utterance
from pipeline.corpus.read_outputs import CORPUS, read_split
from pipeline.report.heard import Heard, heard
from pipeline.report.spectrogram import Sound, Speech, spectrogram
from pipeline.report.transcript import Transcript, transcript
from pipeline.report.variant import Variant
from pipeline.storage.artifacts import Artifact

# Of each split, as far as they fit on the page.
EXAMPLES = 3


@dataclass(frozen=True)
class Voice:
    """The recording of an utterance, or what a variant has made of it; what there is not is None.

    `read` is the text that was recognised in the recording, `heard` that in the resynthesis.
    """

    title: str
    audio: str | None = None
    picture: Markup | None = None
    read: Transcript | None = None
    heard: Transcript | None = None

    @property
    def num_bytes(self) -> int:
        return len(self.audio or "") + len(self.picture or "")


@dataclass(frozen=True)
class Example:
    """One utterance, its recording first."""

    utterance: Utterance
    voices: list[Voice]

    @property
    def num_bytes(self) -> int:
        return sum(voice.num_bytes for voice in self.voices)


@dataclass(frozen=True)
class Listening:
    """Examples by split; `left_out` counts those for which the page has no room."""

    examples: dict[str, list[Example]]
    left_out: int


def listening(variants: Sequence[Variant], splits: Sequence[str], max_bytes: int) -> Listening:
    """Examples of each split in turn, as many as there is room for."""
    known = {split: [heard(variant, split) for variant in variants] for split in splits}
    chosen = {split: _chosen(variants, split, known[split]) for split in splits}
    examples: dict[str, list[Example]] = {split: [] for split in splits}
    left_out = 0
    for number in range(EXAMPLES):
        for split, utterances in chosen.items():
            for utterance in utterances[number : number + 1]:
                example = _example(variants[0], utterance, known[split])
                max_bytes -= example.num_bytes
                if max_bytes >= 0:
                    examples[split].append(example)
                left_out += max_bytes < 0
    return Listening({split: each for split, each in examples.items() if each}, left_out)


def _chosen(variants: Sequence[Variant], split: str, known: Sequence[Heard]) -> list[Utterance]:
    """Some from all over those whose resynthesis is kept, or else from all over the split."""
    corpora = (each.made(each.shown(split), "prepare_corpus") for each in variants)
    node = next(filter(None, corpora), None)
    if node is None:
        return []
    kept = {utt_id for each in known for utt_id in each.audio}
    read = partial(_utterances, node.artifact, split, kept)
    return variants[0].read(f"the utterances of {split}", read) or []


def _utterances(corpus: Artifact, split: str, kept: Collection[str]) -> list[Utterance]:
    rows = corpus.read_table(CORPUS, ["utt_id", "split"]).filter(pc.field("split") == split)
    of_split = rows["utt_id"].to_pylist()
    known = [utt_id for utt_id in of_split if utt_id in kept] or of_split
    count = min(EXAMPLES, len(known))
    chosen = [known[number * len(known) // count] for number in range(count)]
    return read_split(corpus, split, aligned=True, only=chosen)


def _example(first: Variant, utterance: Utterance, known: Sequence[Heard]) -> Example:
    voices = [_recording(first, utterance)] if first.config.corpus.has_audio else []
    return Example(utterance, [*voices, *(_voice(utterance, each) for each in known)])


def _recording(first: Variant, utterance: Utterance) -> Voice:
    rate_hz = first.config.corpus.sample_rate_hz
    samples = first.read("a recording", partial(read_utterance, utterance, rate_hz))
    sound = None if samples is None else Sound(samples, rate_hz)
    speech = Speech(utterance.duration, sound, phones=utterance.alignment or ())
    return _shown("recording", speech, f"the recording of {utterance.utt_id}")


def _voice(utterance: Utterance, known: Heard) -> Voice:
    utt_id, name = utterance.utt_id, known.variant.name
    speech = Speech(
        utterance.duration, known.sound(utt_id), known.segments(utt_id), utterance.alignment or ()
    )
    read, again = known.texts.get(utt_id), known.texts_of_resynthesis.get(utt_id)
    return _shown(
        name,
        speech,
        f"{utt_id} by {name}",
        None if read is None else transcript(*read),
        None if again is None else transcript(*again),
    )


def _shown(
    title: str,
    speech: Speech,
    whose: str,
    read: Transcript | None = None,
    again: Transcript | None = None,
) -> Voice:
    draws = speech.sound or speech.units
    return Voice(
        title,
        None if speech.sound is None else _address(speech.sound),
        spectrogram(speech, whose) if draws else None,
        read,
        again,
    )


def _address(sound: Sound) -> str:
    """The sound as a FLAC file within an address, which loses nothing and every browser plays."""
    file = io.BytesIO()
    write_audio(file, np.clip(sound.samples, -1, 1), sound.sample_rate_hz)
    return f"data:audio/flac;base64,{base64.b64encode(file.getvalue()).decode()}"
