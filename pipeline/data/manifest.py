"""A corpus as a JSON Lines manifest: one utterance a line, audio relative to the manifest."""

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Self

import fsspec
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from pipeline.data.utterance import TO_THE_END, CorpusError, Reject, Segment, Utterance

Seconds = Annotated[float, Field(ge=0)]


class _Strict(BaseModel):
    # Keys of other tools are left alone; a speaker or an id may be written as a number.
    model_config = ConfigDict(extra="ignore", coerce_numbers_to_str=True, allow_inf_nan=False)


class _Segment(_Strict):
    start: Seconds
    end: Seconds
    label: str

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.end < self.start:
            raise ValueError("end lies before start")
        return self


class _Row(_Strict):
    utt_id: str
    split: str
    speaker: str
    audio: str
    offset: Seconds = 0.0
    duration: Annotated[float, Field(gt=0)] | None = None
    text: str
    alignment: tuple[_Segment, ...] | None = None


def read_manifest(uri: str) -> Iterator[Utterance | Reject]:
    """Every line of the manifest at a path or URI, as an utterance or as a reject.

    Raises:
        CorpusError: there is no such manifest.
    """
    folder, name = _folder(uri), uri.rpartition("/")[2]
    for number, line in enumerate(open_manifest(uri).splitlines(), start=1):
        if line.strip():
            yield _read_line(line, folder, f"{name}:{number}")


def open_manifest(uri: str) -> bytes:
    """The manifest's bytes.

    Raises:
        CorpusError: there is no such manifest.
    """
    try:
        with fsspec.open(uri, "rb") as file:
            content: bytes = file.read()
    except (FileNotFoundError, IsADirectoryError):
        raise CorpusError(f"there is no manifest at '{uri}': check corpus.manifest") from None
    return content.removeprefix(b"\xef\xbb\xbf")


def _read_line(line: bytes, folder: str, source: str) -> Utterance | Reject:
    try:
        row = _Row.model_validate_json(line)
    except ValidationError as error:
        problem = error.errors()[0]
        place = ".".join(map(str, problem["loc"]))
        message = problem["msg"].removeprefix("Value error, ")
        reason = f"broken line: {f'{place}: ' if place else ''}{message}"
        return Reject(None, source, reason)
    return Utterance(
        utt_id=row.utt_id,
        split=row.split,
        audio=_locate(row.audio, folder),
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


def _folder(uri: str) -> str:
    # Workers run in folders of their own, so a local manifest's audio is addressed absolutely.
    return uri.rpartition("/")[0] if "://" in uri else str(Path(uri).resolve().parent)


def _locate(audio: str, folder: str) -> str:
    if "://" in audio or audio.startswith("/"):
        return audio
    return f"{folder}/{audio}"
