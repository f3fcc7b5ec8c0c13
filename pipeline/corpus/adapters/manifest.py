"""A corpus as a JSON Lines manifest: one utterance a line, audio relative to the manifest."""

from collections.abc import Iterator
from typing import Annotated, Self

from pydantic import Field, ValidationError, model_validator

from pipeline.audio.utterance import TO_THE_END, CorpusError, Reject, Segment, Utterance
from pipeline.config.corpus import ManifestCorpus
from pipeline.corpus.adapters.json_rows import Row, Seconds, why_broken
from pipeline.corpus.alignment.lookup import Alignments
from pipeline.storage.folders import Folder


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


def read_manifest(config: ManifestCorpus, alignments: Alignments) -> Iterator[Utterance | Reject]:
    """Every line of the manifest, as an utterance or as a reject.

    Raises:
        CorpusError: there is no such manifest.
    """
    folder, name = Folder.around(config.manifest)
    for number, line in enumerate(open_manifest(config.manifest).splitlines(), start=1):
        if line.strip():
            found = _read_line(line, folder, f"{name}:{number}")
            yield found if isinstance(found, Reject) else alignments.attach(found)


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


def _read_line(line: bytes, folder: Folder, source: str) -> Utterance | Reject:
    try:
        row = _Row.model_validate_json(line)
    except ValidationError as error:
        return Reject(None, source, why_broken(error))
    return Utterance(
        utt_id=row.utt_id,
        split=row.split,
        audio=folder.locate(row.audio),
        offset=row.offset,
        duration=TO_THE_END if row.duration is None else row.duration,
        speaker=row.speaker,
        text=row.text,
        alignment=_segments(row.alignment),
    )


def _segments(alignment: tuple[_Segment, ...] | None) -> tuple[Segment, ...] | None:
    if alignment is None:
        return None
    return tuple(Segment(one.start, one.end, one.label) for one in alignment)
