"""The config's corpus: where recordings, texts and alignments lie, and what is asked of them."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from pipeline.config.section import Count, Positive, Section, Share

AlignmentFormat = Literal["textgrid", "ctm", "phn"]

# One utterance's frames are one Parquet value, whose offsets are 32-bit: 2^31 numbers are 9 hours of
# the widest models.
MOST_SECONDS = 8 * 3600.0


class Splits(Section):
    """Which split plays which part; every other split of the corpus is left alone."""

    train: str = "train"
    valid: str = "valid"
    test: tuple[str, ...] = ("test",)

    @property
    def names(self) -> tuple[str, ...]:
        return (self.train, self.valid, *self.test)

    @model_validator(mode="after")
    def _disjoint(self) -> Self:
        if len(set(self.names)) != len(self.names):
            raise ValueError(f"each split may play one part only, got {self.names}")
        return self


class CorpusLimits(Section):
    """What an utterance must satisfy, whatever corpus it comes from.

    `punctuation` lists characters that are taken for spaces before the text is held against
    `alphabet`.
    """

    splits: Splits = Splits()
    sample_rate_hz: Literal[16000] = 16000
    min_seconds: Positive = 0.1
    max_seconds: Annotated[float, Field(gt=0, le=MOST_SECONDS)] = 60.0
    alphabet: str = "abcdefghijklmnopqrstuvwxyz' "
    lowercase: bool = True
    punctuation: str = ""
    max_reject_share: Share = 0.05
    max_utterances: Count | None = None

    @model_validator(mode="after")
    def _range(self) -> Self:
        if self.min_seconds >= self.max_seconds:
            raise ValueError("min_seconds must be less than max_seconds")
        if len(set(self.alphabet)) != len(self.alphabet):
            raise ValueError("alphabet names a character twice")
        if both := sorted(set(self.alphabet) & set(self.punctuation)):
            raise ValueError(f"{both} cannot be in alphabet and in punctuation")
        return self


class RecordedCorpus(CorpusLimits):
    """A corpus of recordings, whose phones may stand in files of an aligner.

    `alignments` is a folder with TextGrid, CTM or TIMIT .PHN files, told by their extension or by
    `alignment_format`, or one CTM file; pipeline/corpus/alignment/lookup.py says which belongs to which
    utterance. `alignment_tier` is what is read of several: a TextGrid's tier.
    """

    alignments: str | None = None
    alignment_format: AlignmentFormat | None = None
    alignment_tier: str = "phones"


class ManifestCorpus(RecordedCorpus):
    """A JSON Lines manifest; audio paths are relative to its folder."""

    kind: Literal["manifest"] = "manifest"
    manifest: str


class LibrispeechCorpus(RecordedCorpus):
    """LibriSpeech's own folders: `root/<split>/<speaker>/<chapter>/*.flac` with `.trans.txt`."""

    kind: Literal["librispeech"] = "librispeech"
    root: str


class LjspeechCorpus(RecordedCorpus):
    """LJSpeech's own folder: `root/metadata.csv` and `root/wavs/`.

    It has no splits, so each utterance goes by a hash of `seed` and its id to a split of `shares`
    or, for the rest, to the training split: whatever else is added or taken away, it stays there.
    """

    kind: Literal["ljspeech"] = "ljspeech"
    root: str
    speaker: str = "LJ"
    shares: dict[str, Share] = Field(default={"valid": 0.02, "test": 0.04})
    seed: int = 0

    @model_validator(mode="after")
    def _complete(self) -> Self:
        held_out = {self.splits.valid, *self.splits.test}
        if set(self.shares) != held_out:
            raise ValueError(f"shares must be of the splits {sorted(held_out)}")
        if sum(self.shares.values()) >= 1:
            raise ValueError("shares must sum to less than 1: the rest is the training split")
        return self


class KaldiCorpus(RecordedCorpus):
    """Kaldi data folders, one a split: `root/<split>/` with wav.scp, text, utt2spk, segments.

    Relative audio paths count from `audio_root`, where the recipe was run.
    """

    kind: Literal["kaldi"] = "kaldi"
    root: str
    audio_root: str = "."


class LhotseCorpus(RecordedCorpus):
    """Lhotse CutSets, a JSON Lines file (`.jsonl` or `.jsonl.gz`) for each split.

    Relative audio paths count from `audio_root`, where the recipe was run. Alignments within the
    cuts are those of the kind `alignment_tier` (for `phones` also `phone`).
    """

    kind: Literal["lhotse"] = "lhotse"
    cuts: dict[str, str]
    audio_root: str = "."

    @model_validator(mode="after")
    def _complete(self) -> Self:
        missing = set(self.splits.names) - set(self.cuts)
        if missing:
            raise ValueError(f"cuts names no file for the splits {sorted(missing)}")
        return self


class SyntheticCorpus(CorpusLimits):
    """Speech from the bundled synthesiser, with exact phone alignments; needs no download."""

    kind: Literal["synthetic"] = "synthetic"
    utterances: dict[str, Count] = Field(default={"train": 800, "valid": 60, "test": 100})
    min_words: Count = 4
    max_words: Count = 7
    seed: int = 0

    @model_validator(mode="after")
    def _complete(self) -> Self:
        missing = set(self.splits.names) - set(self.utterances)
        if missing:
            raise ValueError(f"utterances says nothing for the splits {sorted(missing)}")
        if self.min_words > self.max_words:
            raise ValueError("min_words must not exceed max_words")
        return self


Corpus = Annotated[
    ManifestCorpus
    | LibrispeechCorpus
    | LjspeechCorpus
    | KaldiCorpus
    | LhotseCorpus
    | SyntheticCorpus,
    Field(discriminator="kind"),
]
