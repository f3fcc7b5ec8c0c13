"""A corpus as a JSON Lines manifest: one utterance on each line, audio relative to the manifest."""

from collections.abc import Iterator
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from pipeline.audio.utterance import TO_THE_END, CorpusError, Reject, Segment, Utterance
from pipeline.config.corpus import RecordedCorpus
from pipeline.corpus.json_rows import Row, Seconds, json_rows
from pipeline.corpus.recorded import RecordedAdapter
from pipeline.storage.folders import Folder


class ManifestCorpus(RecordedCorpus):
    """A JSON Lines manifest; audio paths are relative to its folder."""

    kind: Literal["manifest"] = "manifest"
    manifest: str
    """The JSON Lines file; a path or an S3 address."""


class _Segment(Row):
    start: Seconds
    end: Seconds
    label: str

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.end < self.start:
            raise ValueError("end lies before start")
        return self


class _Row(Row):
    utt_id: str
    split: str
    speaker: str
    audio: str
    offset: Seconds = 0.0
    duration: Annotated[float, Field(gt=0)] | None = None
    text: str
    alignment: tuple[_Segment, ...] | None = None


def read_manifest(config: ManifestCorpus) -> Iterator[Utterance | Reject]:
    """Every line of the manifest, as an utterance or as a reject."""
    folder, name = Folder.around(config.manifest)
    lines = open_manifest(config.manifest).splitlines()
    for _, row in json_rows(_Row, lines, name):
        yield row if isinstance(row, Reject) else _utterance(row, folder)


def open_manifest(uri: str) -> bytes:
    """The manifest's bytes.

    Raises:
        CorpusError: there is no such manifest.
    """
    try:
        folder, name = Folder.around(uri)
        content = folder.read(name)
    except (FileNotFoundError, IsADirectoryError):
        raise CorpusError(f"there is no manifest at '{uri}': check corpus.manifest") from None
    return content.removeprefix(b"\xef\xbb\xbf")


def _utterance(row: _Row, folder: Folder) -> Utterance:
    segments = row.alignment
    return Utterance(
        utt_id=row.utt_id,
        split=row.split,
        audio=folder.locate(row.audio),
        offset=row.offset,
        duration=TO_THE_END if row.duration is None else row.duration,
        speaker=row.speaker,
        text=row.text,
        alignment=None
        if segments is None
        else tuple(Segment(each.start, each.end, each.label) for each in segments),
    )


ADAPTER = RecordedAdapter(
    section=ManifestCorpus,
    entries=read_manifest,
    contents=lambda config: open_manifest(config.manifest),
    path_keys=("manifest",),
    has_durations=True,
)
