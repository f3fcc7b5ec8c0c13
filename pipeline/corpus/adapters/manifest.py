"""A corpus as a JSON Lines manifest: one utterance on each line, audio relative to the manifest."""

from collections.abc import Iterator
from typing import Annotated, Any, Literal

from pydantic import Field, TypeAdapter, ValidationError

from pipeline.audio.utterance import (
    TO_THE_END,
    AlignmentError,
    Reject,
    Segment,
    Utterance,
)
from pipeline.config.corpus import RecordedCorpus
from pipeline.config.section import Address
from pipeline.corpus.json_rows import Row, Seconds, Text, first_problem, json_rows
from pipeline.corpus.recorded import RecordedAdapter
from pipeline.corpus.text_table import read_text
from pipeline.storage.folders import Folder


class ManifestCorpus(RecordedCorpus):
    """A JSON Lines manifest; audio paths are relative to its folder."""

    kind: Literal["manifest"] = "manifest"
    manifest: Address
    """The JSON Lines file; a path or an S3 address."""


class _Segment(Row):
    start: float
    end: float
    label: Text


class _Row(Row):
    utt_id: Text
    split: Text
    speaker: Text
    audio: Text
    offset: Seconds = 0.0
    duration: Annotated[float, Field(gt=0)] | None = None
    text: Text
    alignment: Any = None


_SEGMENTS = TypeAdapter(tuple[_Segment, ...])


def read_manifest(config: ManifestCorpus) -> Iterator[Utterance | Reject]:
    """Every line of the manifest, as an utterance or as a reject."""
    folder, name = Folder.around(config.manifest)
    for source, row in json_rows(_Row, open_manifest(config.manifest), name):
        if isinstance(row, Reject):
            yield row
        else:
            yield from _read_row(row, source, folder)


def open_manifest(uri: str) -> bytes:
    """The manifest's bytes.

    Raises:
        CorpusError: there is no such manifest, or it cannot be read.
    """
    missing = f"there is no manifest at '{uri}': check corpus.manifest"
    return read_text(*Folder.around(uri), missing)


def _read_row(row: _Row, source: str, folder: Folder) -> Iterator[Utterance | Reject]:
    """The utterance; a broken alignment is a reject of its own."""
    try:
        alignment = None if row.alignment is None else _segments(row.alignment)
    except AlignmentError as error:
        yield Reject(row.utt_id, source, str(error), "alignment")
        alignment = None
    yield Utterance(
        utt_id=row.utt_id,
        split=row.split,
        audio=folder.locate(row.audio),
        offset=row.offset,
        duration=TO_THE_END if row.duration is None else row.duration,
        speaker=row.speaker,
        text=row.text,
        alignment=alignment,
    )


def _segments(alignment: Any) -> tuple[Segment, ...]:
    try:
        rows = _SEGMENTS.validate_python(alignment)
    except ValidationError as error:
        raise AlignmentError(f"broken alignment: {first_problem(error)}") from None
    return tuple(Segment(row.start, row.end, row.label) for row in rows)


ADAPTER = RecordedAdapter(
    section=ManifestCorpus,
    entries=read_manifest,
    contents=lambda config: open_manifest(config.manifest),
    path_keys=("manifest",),
)
