"""The config's corpus: where recordings, texts and alignments lie, and what is asked of them."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from pipeline.config.section import Count, Positive, Section, Share

AlignmentFormat = Literal["textgrid", "ctm", "phn"]

# One utterance's frames are one Parquet value, whose offsets are 32-bit: 2^31 numbers are 9 hours of
# the widest models.
MOST_SECONDS = 8 * 3600.0


class Splits(Section):
    """Which split plays which part; all other splits of the corpus are ignored."""

    train: str = "train"
    """The split that models are trained on."""
    valid: str = "valid"
    """The split that the best checkpoints are chosen on."""
    test: tuple[str, ...] = ("test",)
    """The splits that scores are reported for."""

    @property
    def names(self) -> tuple[str, ...]:
        return (self.train, self.valid, *self.test)

    @model_validator(mode="after")
    def _disjoint(self) -> Self:
        if len(set(self.names)) != len(self.names):
            raise ValueError(f"each split may play one part only, got {self.names}")
        return self


class CorpusLimits(Section):
    """What an utterance must satisfy, whatever corpus it comes from."""

    splits: Splits = Splits()
    sample_rate_hz: Literal[16000] = 16000
    """Audio of any other rate is resampled to this one, which the SSL models expect."""
    min_seconds: Positive = 0.1
    """Shorter utterances are rejected."""
    max_seconds: Annotated[float, Field(gt=0, le=MOST_SECONDS)] = 60.0
    """Longer utterances are rejected."""
    alphabet: str = "abcdefghijklmnopqrstuvwxyz' "
    """The characters a text may hold; a text with any other is rejected."""
    lowercase: bool = True
    """Lowercase the text before it is compared with `alphabet`."""
    punctuation: str = ""
    """Characters that are replaced by spaces before the text is compared with `alphabet`."""
    max_reject_share: Share = 0.05
    """The run stops if a larger share of the utterances is rejected."""
    max_utterances: Count | None = None
    """Use only this many utterances of each split, the first by utt_id; `None` uses all."""

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
    """A corpus of recordings, whose phones may come from the files of an aligner.

    pipeline/corpus/alignment/lookup.py says which alignment belongs to which utterance.
    """

    alignments: str | None = None
    """A folder of TextGrid, CTM or TIMIT .PHN files, or one CTM file: labels for phone purity."""
    alignment_format: AlignmentFormat | None = None
    """The format of `alignments`; `None` goes by the file extension."""
    alignment_tier: str = "phones"
    """The tier to read from a TextGrid that has several."""


class ManifestCorpus(RecordedCorpus):
    """A JSON Lines manifest; audio paths are relative to its folder."""

    kind: Literal["manifest"] = "manifest"
    manifest: str
    """The JSON Lines file; a path or an S3 address."""


class LibrispeechCorpus(RecordedCorpus):
    """LibriSpeech's own folders: `root/<split>/<speaker>/<chapter>/*.flac` with `.trans.txt`."""

    kind: Literal["librispeech"] = "librispeech"
    root: str
    """The folder that holds `train-clean-100`, `dev-clean` and so on."""


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
            raise ValueError(f"shares must be of the splits {sorted(held_out)}")
        if sum(self.shares.values()) >= 1:
            raise ValueError("shares must sum to less than 1: the rest is the training split")
        return self


class KaldiCorpus(RecordedCorpus):
    """Kaldi data folders, one a split: `root/<split>/` with wav.scp, text, utt2spk, segments."""

    kind: Literal["kaldi"] = "kaldi"
    root: str
    """The folder of data folders, one for each split."""
    audio_root: str = "."
    """The folder that relative paths in wav.scp start from: where the recipe was run."""


class LhotseCorpus(RecordedCorpus):
    """Lhotse CutSets, a JSON Lines file (`.jsonl` or `.jsonl.gz`) for each split.

    Alignments within the cuts are those of the kind `alignment_tier` (for `phones` also `phone`).
    """

    kind: Literal["lhotse"] = "lhotse"
    cuts: dict[str, str]
    """The CutSet of each split, `.jsonl` or `.jsonl.gz`."""
    audio_root: str = "."
    """The folder that relative audio paths start from: where the recipe was run."""

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
    """How many utterances each split has."""
    min_words: Count = 4
    """The fewest words in an utterance."""
    max_words: Count = 7
    """The most words in an utterance."""
    seed: int = 0
    """Random seed of texts and voices."""

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
