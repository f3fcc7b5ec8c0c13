"""The config's corpus: the keys that every kind has, and the section that a kind's adapter declares.

Adapters are imported by name, as stages are: the config knows none of them.
"""

import importlib
import unicodedata
from collections import Counter
from itertools import combinations
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    GetJsonSchemaHandler,
    SerializeAsAny,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema

from pipeline.config.declaration import kinds_in, load_kind
from pipeline.config.section import (
    Address,
    ConfigError,
    Count,
    Exactly,
    Name,
    Section,
    Share,
    Text,
    validate_part,
)

KINDS = "pipeline.corpus.adapters"

AlignmentFormat = Literal["textgrid", "ctm", "phn"]

# An utterance's frames are one Parquet value with 32-bit offsets: 2^31 numbers are 9 hours of the
# widest models.
MOST_SECONDS = 8 * 3600.0

# The split of the speaker whom a fold leaves out.
FOLD_TEST = "test"


def plain_name(split: str) -> str:
    """A split's name without what is easily overlooked: capitals, spaces, how accents are coded."""
    return "".join(unicodedata.normalize("NFKC", split).casefold().split())


class Splits(Section):
    """Which split plays which part; all other splits of the corpus are ignored."""

    train: Name = "train"
    """The split that models are trained on."""
    valid: Name = "valid"
    """The split that the best checkpoints are chosen on."""
    test: tuple[Name, ...] = ("test",)
    """The splits that scores are reported for."""

    @property
    def names(self) -> tuple[str, ...]:
        return (self.train, self.valid, *self.test)

    @model_validator(mode="after")
    def _disjoint(self) -> Self:
        if len(set(self.names)) != len(self.names):
            raise ValueError(f"each split may play one part only, got {self.names}")
        for one, other in combinations(self.names, 2):
            if plain_name(one) == plain_name(other):
                raise ValueError(
                    f"the splits '{one}' and '{other}' differ only in capitals or spaces: not every "
                    "storage can tell their files apart; rename one in the corpus"
                )
        return self


def composed(text: str) -> str:
    """The text in NFC, where a letter and its accent are one character, if Unicode has one."""
    return unicodedata.normalize("NFC", text)


def speaker_name(speaker: str) -> str:
    """A speaker's name in every stage after the check of the corpus."""
    return composed(speaker.strip())


Speaker = Annotated[Text, AfterValidator(speaker_name)]


def _is_a_way(folds: Any) -> Any:
    if folds != "speaker" and not isinstance(folds, list | tuple):
        raise ValueError(f"must be 'speaker' or a list of speakers, got {folds!r}")
    return tuple(folds) if isinstance(folds, list) else folds  # a strict tuple takes no list


class Fold(Section):
    """One fold of a corpus: the speaker whom no training hears."""

    speaker: Annotated[str, AfterValidator(speaker_name)] = ""
    """The speaker who is left out. `folds` sets this in each fold: write that key instead."""
    test: tuple[Name, ...] = ()
    """The test splits of the whole corpus, in a fold; `folds` sets this too."""


def _composed_once(alphabet: str) -> str:
    # NFC takes some characters apart, such as U+0958, whose parts may be in the alphabet already.
    parts = composed(alphabet)
    return alphabet if parts == alphabet else "".join(dict.fromkeys(parts))


class CorpusSection(Section):
    """What every utterance must satisfy, whatever the kind of corpus.

    One that does not have audio has tokens instead.
    """

    has_audio: ClassVar[bool] = True
    kind: Text
    """The adapter: a file of pipeline/corpus/adapters/, or a module of your own."""
    splits: Splits = Splits()
    folds: Annotated[Literal["speaker"] | tuple[Speaker, ...], BeforeValidator(_is_a_way)] = ()
    """Leave one speaker out, for corpora with few: each variant is trained once for each speaker of
    `splits` (`speaker`), or of a list. Everything this speaker says in these splits is then the
    split `test`; training sees the others' utterances in `splits.train` and `splits.valid`."""
    fold: Fold = Fold()
    sample_rate_hz: Annotated[Literal[16000], Exactly] = 16000
    """Audio of any other rate is resampled to this one, which the SSL models expect."""
    min_seconds: Annotated[float, Field(gt=0, le=MOST_SECONDS)] = 0.1
    """Shorter utterances are rejected."""
    max_seconds: Annotated[float, Field(gt=0, le=MOST_SECONDS)] = 60.0
    """Longer utterances are rejected."""
    alphabet: Annotated[str, AfterValidator(_composed_once)] = "abcdefghijklmnopqrstuvwxyz' "
    """The characters a text may hold; a text with any other is rejected. Both are compared in NFC."""
    lowercase: bool = True
    """Lowercase the text before it is compared with `alphabet`."""
    punctuation: Annotated[str, AfterValidator(composed)] = ""
    """Characters that are replaced by spaces before the text is compared with `alphabet`."""
    max_reject_share: Share = 0.05
    """The run stops if a larger share of the utterances, or of the alignments, is rejected."""
    max_utterances: Count | None = None
    """Use only this many utterances of each split, the first by utt_id; `None` uses all."""

    @model_validator(mode="after")
    def _range(self) -> Self:
        if self.min_seconds >= self.max_seconds:
            raise ValueError("min_seconds must be less than max_seconds")
        if not self.alphabet:
            raise ValueError("alphabet is empty, so every text would be rejected")
        if self.lowercase and self.alphabet != self.alphabet.lower():
            raise ValueError(
                "alphabet has capital letters, which lowercase removes from every text: write it in "
                "small letters, or set lowercase to false"
            )
        if len(set(self.alphabet)) != len(self.alphabet):
            raise ValueError("alphabet names a character twice")
        if both := sorted(set(self.alphabet) & set(self.punctuation)):
            raise ValueError(f"{both} cannot be in alphabet and in punctuation")
        return self

    @model_validator(mode="after")
    def _folds(self) -> Self:
        if isinstance(self.folds, tuple) and len(set(self.folds)) != len(self.folds):
            raise ValueError(f"folds {list(self.folds)} names a speaker twice: name each once")
        if self.folds and FOLD_TEST in {self.splits.train, self.splits.valid}:
            raise ValueError(
                f"folds makes a split '{FOLD_TEST}' of each speaker, so neither splits.train nor "
                "splits.valid can have this name: rename the split in the corpus"
            )
        if self.fold.speaker and (self.folds or self.splits.test != (FOLD_TEST,)):
            raise ValueError(
                f"fold is set by folds in each fold: write folds: [{self.fold.speaker}] instead"
            )
        return self

    def leaving_out(self, speaker: str) -> Self:
        """The fold in which this speaker is tested, and heard nowhere else."""
        fold = Fold(speaker=speaker, test=self.splits.test)
        splits = self.splits.model_copy(update={"test": (FOLD_TEST,)})
        return self.model_copy(update={"folds": (), "fold": fold, "splits": splits})

    @property
    def whole(self) -> Self:
        """The corpus that a fold is one of; itself if it is none."""
        if not self.fold.speaker:
            return self
        splits = self.splits.model_copy(update={"test": self.fold.test})
        return self.model_copy(update={"fold": Fold(), "splits": splits})

    @property
    def scored_splits(self) -> tuple[str, ...]:
        """The splits that scores are of: in folds, the one of all speakers."""
        return (FOLD_TEST,) if self.folds else self.splits.test


class RecordedCorpus(CorpusSection):
    """A corpus of recordings, whose phones may come from the files of an aligner.

    pipeline/corpus/alignment/lookup.py says which alignment belongs to which utterance.
    """

    alignments: Address | None = None
    """A folder of TextGrid, CTM or TIMIT .PHN files, or one CTM file: labels for phone purity."""
    alignment_format: AlignmentFormat | None = None
    """The format of `alignments`; `None` goes by the file extension."""
    alignment_tier: Text = "phones"
    """The tier to read from a TextGrid; `{speaker}` and `{utt_id}` stand for those of the utterance.
    If there is none of that name, `{speaker} - ` before it is tried, as the Montreal Forced Aligner
    names the tiers of several speakers."""
    alignment_sample_rate_hz: Count = 16000
    """The sampling rate that the times of .PHN files are counted at."""

    def tiers(self, speaker: str, utt_id: str) -> tuple[str, str]:
        """The names that the tier of an utterance may have, the preferred one first."""
        tier = self.alignment_tier.format(speaker=speaker, utt_id=utt_id)
        return tier, f"{speaker} - {tier}"

    @field_validator("alignment_tier")
    @classmethod
    def _fields(cls, tier: str) -> str:
        try:
            tier.format(speaker="", utt_id="")
        except (LookupError, ValueError, AttributeError):
            raise ValueError("only {speaker} and {utt_id} may be in braces") from None
        return tier


class SpeakersHeldOut(RecordedCorpus):
    """A corpus with splits of its own, out of which speakers are taken to make others."""

    held_out: dict[Name, tuple[Text, ...]] = Field(default={})
    """The speakers of each further split, who are taken out of the splits that they are in."""

    @model_validator(mode="after")
    def _held_out_once(self) -> Self:
        counts = Counter(speaker for speakers in self.held_out.values() for speaker in speakers)
        if twice := sorted(speaker for speaker, count in counts.items() if count > 1):
            raise ValueError(f"held_out names {twice} twice")
        return self


def load_adapter(kind: str) -> Any:
    """The `pipeline.corpus.adapter.Adapter` of a kind; a name with a dot is a user's own module.

    Raises:
        ConfigError: there is no such module, or it declares no adapter.
    """
    adapter = importlib.import_module("pipeline.corpus.adapter").Adapter
    return load_kind(kind, KINDS, "ADAPTER", adapter, "corpus")


def _validate(values: Any, info: ValidationInfo) -> CorpusSection:
    if isinstance(values, CorpusSection):
        return values
    kind = values.get("kind") if isinstance(values, dict) else None
    if not isinstance(kind, str):
        raise ConfigError(f"set corpus.kind to one of {kinds_in(KINDS)}")
    section: CorpusSection = validate_part(load_adapter(kind).section, values, info)
    return section


class _OneOfAllKinds:
    """The JSON schema of `Corpus`: the section of any of the project's own kinds."""

    def __get_pydantic_json_schema__(
        self, _schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        sections = [load_adapter(kind).section for kind in kinds_in(KINDS)]
        return {"oneOf": [handler(section.__pydantic_core_schema__) for section in sections]}


Corpus = Annotated[SerializeAsAny[CorpusSection], BeforeValidator(_validate), _OneOfAllKinds()]
