"""LJSpeech's own folder: `root/metadata.csv`, `id|text` or `id|text|normalised`, and `root/wavs/`.

The last column is the text. There are no splits; see `split_of`.
"""

import hashlib
from collections.abc import Iterator
from typing import Literal, Self

from pydantic import Field, model_validator

from pipeline.audio.utterance import TO_THE_END, CorpusError, Reject, Utterance
from pipeline.config.corpus import RecordedCorpus
from pipeline.config.section import Share
from pipeline.corpus.recorded import RecordedAdapter
from pipeline.storage.folders import Folder

_METADATA = "metadata.csv"


class LjspeechCorpus(RecordedCorpus):
    """LJSpeech's own folder: `root/metadata.csv` and `root/wavs/`.

    It has no splits. A hash of `seed` and the utterance's id assigns each utterance to a split, so
    an utterance stays in its split whatever is added or deleted.
    """

    kind: Literal["ljspeech"] = "ljspeech"
    root: str
    """The folder that holds `metadata.csv` and `wavs/`."""
    speaker: str = "LJ"
    """The speaker's name in the tables."""
    shares: dict[str, Share] = Field(default={"valid": 0.02, "test": 0.04})
    """The share of all utterances that goes to each split other than training."""
    seed: int = 0
    """Hashed with the utt_id to choose an utterance's split."""

    @model_validator(mode="after")
    def _complete(self) -> Self:
        held_out = {self.splits.valid, *self.splits.test}
        if set(self.shares) != held_out:
            raise ValueError(f"shares must name exactly the splits {sorted(held_out)}")
        if sum(self.shares.values()) >= 1:
            raise ValueError("shares must sum to less than 1: the rest is the training split")
        return self


def list_wavs(config: LjspeechCorpus) -> dict[str, int]:
    """The audio files' names with their sizes."""
    return Folder.at(config.root).files("wavs")


def read_metadata(config: LjspeechCorpus) -> bytes:
    """The table of texts.

    Raises:
        CorpusError: it does not exist.
    """
    root = Folder.at(config.root)
    if root.size(_METADATA) is None:
        raise CorpusError(f"'{config.root}' has no {_METADATA}: check corpus.root")
    return root.read(_METADATA)


def read_ljspeech(config: LjspeechCorpus) -> Iterator[Utterance | Reject]:
    """Every row of the table, then a reject for each audio file that no row names."""
    unnamed = set(list_wavs(config))
    for number, line in enumerate(read_metadata(config).splitlines(), start=1):
        if line.strip():
            entry = _read_line(line, f"{_METADATA}:{number}", config)
            unnamed.discard(f"{entry.utt_id}.wav")
            yield entry
    for name in sorted(unnamed):
        reason = f"no transcript: no row of {_METADATA} names it"
        yield Reject(name.removesuffix(".wav"), f"wavs/{name}", reason)


def split_of(utt_id: str, config: LjspeechCorpus) -> str:
    """The split that the utterance's hash selects; each split gets about its share."""
    hashed = hashlib.sha256(f"{config.seed}/{utt_id}".encode()).digest()
    position = int.from_bytes(hashed[:8]) / 2**64
    for split in (config.splits.valid, *config.splits.test):
        if position < config.shares[split]:
            return split
        position -= config.shares[split]
    return config.splits.train


def _read_line(line: bytes, source: str, config: LjspeechCorpus) -> Utterance | Reject:
    try:
        utt_id, *texts = line.decode("utf-8-sig").split("|")
    except UnicodeDecodeError:
        return Reject(None, source, "broken line: not UTF-8")
    if len(texts) not in {1, 2}:
        reason = f"broken line: {1 + len(texts)} columns instead of id|text|normalised"
        return Reject(utt_id, source, reason)
    audio = Folder.at(config.root).locate(f"wavs/{utt_id}.wav")
    split = split_of(utt_id, config)
    return Utterance(utt_id, split, audio, 0.0, TO_THE_END, config.speaker, texts[-1])


ADAPTER = RecordedAdapter(
    section=LjspeechCorpus,
    entries=read_ljspeech,
    contents=lambda config: [read_metadata(config), list_wavs(config)],
    path_keys=("root",),
)
