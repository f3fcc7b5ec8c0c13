"""An utterance of a corpus, and a row that could not become one. Times are in seconds."""

import math
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from itertools import groupby
from typing import Literal

import pyarrow as pa

from pipeline.storage import table_schemas
from pipeline.storage.folders import printable

TO_THE_END = math.inf
# The reason for a file whose address no table can hold and no worker can be told.
NOT_UTF_8 = "name is not UTF-8: rename the file or its folder"

# The label of all silences.
SILENCE = "sil"


class CorpusError(RuntimeError):
    """A corpus that cannot be used at all; the message says what, why and the cure."""


class AlignmentError(ValueError):
    """An alignment that cannot be used; the message says why."""


@dataclass(frozen=True, slots=True)
class Segment:
    """An interval [start, end) that an alignment labels with a phone or a word."""

    start: float
    end: float
    label: str


@dataclass(frozen=True, slots=True)
class Extent:
    """How far an alignment reaches, before an utterance is cut from it.

    One that is `complete` begins with a labelled silence, so that all of its audio should be
    labelled.
    """

    end: float
    complete: bool


@dataclass(frozen=True)
class Utterance:
    """One stretch of speech with its text: `duration` seconds of `audio` from `offset` on.

    An adapter that does not know the duration sets TO_THE_END; the check fills in the real one.
    `recording` is the corpus's own name for the recording, if it has one: alignments may be named
    after it. `extent` is that of the recording's alignment, where `alignment` is cut from one.
    `speed` is how much faster than recorded it is played: then `duration` is how long it is heard, and
    takes `duration * speed` seconds of the file. None of these is stored.

    `audio_version` is the audio file's size, with its time or ETag, when the corpus was listed;
    `audio_sha256` hashes the file's content, as far as it was read completely. See
    `pipeline.audio.identity`.
    """

    utt_id: str
    split: str
    audio: str
    offset: float
    duration: float
    speaker: str
    text: str
    alignment: tuple[Segment, ...] | None = None
    audio_version: str = ""
    audio_sha256: str = ""
    recording: str | None = field(default=None, compare=False)
    extent: Extent | None = field(default=None, compare=False)
    speed: float = 1.0


@dataclass(frozen=True)
class Reject:
    """What was left out, its source (a file, or a line of one), and the reason.

    An utterance whose `alignment` alone was left out is kept, without it. A `warning` leaves nothing
    out: somebody should listen to the utterance. Names are made `printable`: what is wrong with them
    must not stop the table that says so.
    """

    utt_id: str | None
    source: str
    reason: str
    what: Literal["utterance", "alignment", "warning"] = "utterance"

    def __post_init__(self) -> None:
        for name in ("utt_id", "source", "reason"):
            value = getattr(self, name)
            if value is not None:
                object.__setattr__(self, name, printable(value))

    @property
    def kind(self) -> str:
        """The reason up to its first colon, by which rejects are counted."""
        return self.reason.partition(":")[0]


def first_of_each_split(utterances: Iterable[Utterance], limit: int | None) -> list[Utterance]:
    """At most `limit` utterances of each split, sorted by split and utt_id."""
    ordered = sorted(utterances, key=lambda utterance: (utterance.split, utterance.utt_id))
    splits = groupby(ordered, key=lambda utterance: utterance.split)
    return [utterance for _, split in splits for utterance in list(split)[:limit]]


def to_table(utterances: Iterable[Utterance], schema: pa.Schema = table_schemas.CORPUS) -> pa.Table:
    """Checked utterances as a table, with those fields that are columns of `schema`."""
    return pa.Table.from_pylist([asdict(utterance) for utterance in utterances], schema=schema)


def from_table(table: pa.Table | pa.RecordBatch) -> list[Utterance]:
    """The inverse of `to_table`."""
    rows = table.to_pylist()
    for row in rows:
        if row["alignment"] is not None:
            row["alignment"] = tuple(Segment(**segment) for segment in row["alignment"])
    return [Utterance(**row) for row in rows]


def rejects_to_table(rejects: Iterable[Reject]) -> pa.Table:
    """Rejects as a table of `table_schemas.REJECTS`."""
    return pa.Table.from_pylist(
        [asdict(reject) for reject in rejects], schema=table_schemas.REJECTS
    )
