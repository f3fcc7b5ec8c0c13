"""LJSpeech's own folder: `root/metadata.csv`, `id|text` or `id|text|normalised`, and `root/wavs/`.

The last column is the text. There are no splits; see `split_of`.
"""

import hashlib
from collections.abc import Iterator, Mapping
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from pipeline.audio.utterance import TO_THE_END, Reject, Utterance
from pipeline.config.corpus import RecordedCorpus
from pipeline.config.section import Address, Seed, Text
from pipeline.corpus.audio_names import audio_by_stem
from pipeline.corpus.recorded import RecordedAdapter
from pipeline.corpus.root import corpus_root
from pipeline.corpus.text_table import BLANKS, read_lines, read_text
from pipeline.storage.folders import Folder, Listing

_METADATA = "metadata.csv"


class LjspeechCorpus(RecordedCorpus):
    """LJSpeech's own folder: `root/metadata.csv` and `root/wavs/`.

    It has no splits. A hash of `seed` and the utterance's id assigns each utterance to a split, so
    an utterance stays in its split whatever is added or deleted.
    """

    kind: Literal["ljspeech"] = "ljspeech"
    root: Address
    """The folder that holds `metadata.csv` and `wavs/`."""
    speaker: Text = "LJ"
    """The speaker's name in the tables."""
    shares: dict[str, Annotated[float, Field(gt=0, lt=1)]] = Field(
        default={"valid": 0.02, "test": 0.04}
    )
    """The share of all utterances that goes to each split other than training."""
    seed: Seed = 0
    """Hashed with the utt_id to choose an utterance's split."""

    @model_validator(mode="after")
    def _complete(self) -> Self:
        held_out = {self.splits.valid, *self.splits.test}
        if set(self.shares) != held_out:
            raise ValueError(f"shares must name exactly the splits {sorted(held_out)}")
        if sum(self.shares.values()) >= 1:
            raise ValueError("shares must sum to less than 1: the rest is the training split")
        return self


def list_wavs(config: LjspeechCorpus) -> Listing:
    """What is in the folder of the audio files."""
    return Folder.at(config.root).listing("wavs")


def read_metadata(config: LjspeechCorpus) -> bytes:
    """The table of texts.

    Raises:
        CorpusError: it does not exist, or it cannot be read.
    """
    missing = f"'{config.root}' has no {_METADATA}: check corpus.root"
    return read_text(corpus_root(config.root), _METADATA, missing)


def read_contents(config: LjspeechCorpus) -> tuple[bytes, dict[str, str]]:
    """The table of texts, and the audio files with sizes and versions."""
    wavs = list_wavs(config).files
    return read_metadata(config), {name: str(info) for name, info in wavs.items()}


def read_ljspeech(config: LjspeechCorpus) -> Iterator[Utterance | Reject]:
    """Every row of the table, then a reject for whatever no row names."""
    wavs, listing = Folder(Folder.at(config.root).address("wavs")), list_wavs(config)
    names = audio_by_stem([*listing.files, *listing.unusable], "wav")
    audio = {utt_id: wavs.address(name) for utt_id, name in names.items()}
    named: dict[str, str] = {}
    for line in read_lines(read_metadata(config), _METADATA):
        if isinstance(line, Reject):
            yield line
            continue
        utt_id, *texts = _columns(line.text)
        first = named.setdefault(utt_id, line.source)
        if first == line.source:
            yield _utterance(utt_id, texts, line.source, config, audio)
        else:
            yield Reject(utt_id, line.source, f"duplicate id: {first} has it already")
    unnamed = f"no transcript: no row of {_METADATA} names it"
    for utt_id in sorted(audio.keys() - named.keys()):
        reason = listing.unusable.get(names[utt_id], unnamed)
        yield Reject(utt_id, audio[utt_id], reason)
    for name in sorted(listing.unusable.keys() - set(names.values())):
        yield Reject(None, wavs.address(name), listing.unusable[name])


def split_of(utt_id: str, config: LjspeechCorpus) -> str:
    """The split that the utterance's hash selects; each split gets about its share."""
    hashed = hashlib.sha256(f"{config.seed}/{utt_id}".encode()).digest()
    position = int.from_bytes(hashed[:8]) / 2**64
    for split in (config.splits.valid, *config.splits.test):
        if position < config.shares[split]:
            return split
        position -= config.shares[split]
    return config.splits.train


def _columns(line: str) -> list[str]:
    """`id|text` or `id|text|normalised`, or the same with tabs. A quote is a character of the text."""
    columns = line.split("|" if "|" in line else "\t")
    return [column.strip(BLANKS) for column in columns]


def _utterance(
    utt_id: str, texts: list[str], source: str, config: LjspeechCorpus, audio: Mapping[str, str]
) -> Utterance | Reject:
    if len(texts) not in {1, 2}:
        reason = f"broken line: {1 + len(texts)} columns instead of id|text|normalised"
        return Reject(utt_id, source, reason)
    if utt_id not in audio:
        return Reject(utt_id, source, f"no audio: there is no wavs/{utt_id}.wav")
    split = split_of(utt_id, config)
    return Utterance(utt_id, split, audio[utt_id], 0.0, TO_THE_END, config.speaker, texts[-1])


ADAPTER = RecordedAdapter(
    section=LjspeechCorpus,
    entries=read_ljspeech,
    contents=read_contents,
    path_keys=("root",),
    lists_audio=True,
)
