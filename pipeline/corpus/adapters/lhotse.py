"""Lhotse CutSets as JSON Lines; each supervision of a cut is an utterance. Lhotse is not needed.

Each recording must be one plain audio file: mixed or padded cuts, audio inside the manifest,
commands, several channels, and transforms that are applied on reading are rejected.
"""

import gzip
import io
import zlib
from collections.abc import Iterator
from dataclasses import replace
from typing import Any, Literal, Self

from pydantic import Field, ValidationError, model_validator

from pipeline.audio.utterance import CorpusError, Reject, Segment, Utterance
from pipeline.config.corpus import RecordedCorpus
from pipeline.corpus.alignment.recording_alignment import RecordingAlignment
from pipeline.corpus.json_rows import Row, Seconds, why_broken
from pipeline.corpus.recorded import RecordedAdapter
from pipeline.storage.filesystem import filesystem_and_path
from pipeline.storage.folders import Folder

# Lhotse rounds times: a supervision may extend beyond its cut by less than this.
_ROUNDING_SECONDS = 0.01
_DIGITS = 6  # decimals of a second; Lhotse's own times have eight

_Item = tuple[str, float, Seconds] | tuple[str, float, Seconds, float | None]


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


class _Source(Row):
    type: str
    source: str
    channels: tuple[int, ...]


class _Recording(Row):
    id: str
    sources: tuple[_Source, ...]
    transforms: tuple[Any, ...] | None = None


class _Supervision(Row):
    id: str
    start: float
    duration: float = Field(gt=0)
    text: str | None = None
    speaker: str | None = None
    # For each kind, items of symbol, start, duration and a score. Their times count from the
    # recording's start, whereas `start` counts from the cut's (Lhotse 1.17 and later).
    alignment: dict[str, tuple[_Item, ...]] | None = None


class _Cut(Row):
    id: str
    type: str
    start: Seconds = 0.0
    duration: float | None = None
    recording: _Recording | None = None
    supervisions: tuple[_Supervision, ...] = ()


class _UnusableError(ValueError):
    """A supervision that cannot become an utterance; the message becomes the reason."""


def open_cuts(config: LhotseCorpus, split: str) -> bytes:
    """A split's CutSet, decompressed.

    Raises:
        CorpusError: the file does not exist, or is an incomplete gzip file.
    """
    uri = config.cuts[split]
    try:
        filesystem, path = filesystem_and_path(uri)
        with filesystem.open(path, "rb", compression="infer") as file:
            content: bytes = file.read()
    except (FileNotFoundError, IsADirectoryError):
        raise CorpusError(f"there is no CutSet at '{uri}': check corpus.cuts.{split}") from None
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise CorpusError(f"the CutSet '{uri}' is cut short or damaged: {error}") from None
    return content


def read_lhotse(config: LhotseCorpus) -> Iterator[Utterance | Reject]:
    """Every supervision of every cut, in the order of the files.

    Raises:
        CorpusError: as `open_cuts`.
    """
    for split in config.splits.names:
        name = Folder.around(config.cuts[split])[1]
        for number, line in enumerate(io.BytesIO(open_cuts(config, split)), start=1):
            if line.strip():
                yield from _read_line(line, f"{name}:{number}", split, config)


def _read_line(
    line: bytes, source: str, split: str, config: LhotseCorpus
) -> Iterator[Utterance | Reject]:
    try:
        cut = _Cut.model_validate_json(line)
    except ValidationError as error:
        yield Reject(None, source, why_broken(error))
        return
    problem = _why_unusable(cut)
    if problem or cut.recording is None:
        for utt_id in [supervision.id for supervision in cut.supervisions] or [cut.id]:
            yield Reject(utt_id, source, problem)
        return
    audio = Folder.at(config.audio_root).locate(cut.recording.sources[0].source)
    for supervision in cut.supervisions:
        try:
            utterance = _utterance(cut, supervision, split, audio, config.alignment_tier)
            yield replace(utterance, recording=cut.recording.id)
        except _UnusableError as error:
            yield Reject(supervision.id, source, str(error))


def _why_unusable(cut: _Cut) -> str:
    """Why none of a cut's supervisions can be used; empty if they can."""
    if cut.type not in {"MonoCut", "MultiCut"}:
        return f"not a plain cut of one recording: {cut.type} (save it as audio)"
    if not cut.supervisions:
        return "no supervision: the cut has no text"
    if cut.recording is None:
        return "no audio: the cut has features only"
    return _why_unreadable(cut.recording)


def _why_unreadable(recording: _Recording) -> str:
    """Why a recording is not one plain file; empty if it is."""
    if recording.transforms:
        return "audio is transformed when it is read: save the transformed audio"
    sources = recording.sources
    if len(sources) != 1 or len(sources[0].channels) != 1:
        return "audio has several channels or files: save each channel as one file"
    if sources[0].type not in {"file", "url"}:
        return f"audio is not in a file: its source is of type '{sources[0].type}'"
    return ""


def _utterance(
    cut: _Cut, supervision: _Supervision, split: str, audio: str, tier: str
) -> Utterance:
    end = supervision.start + supervision.duration
    length = end if cut.duration is None else cut.duration
    if supervision.start < -_ROUNDING_SECONDS or end > length + _ROUNDING_SECONDS:
        raise _UnusableError(
            f"supervision extends beyond its cut: {supervision.start:g} to {end:g} s of "
            f"{length:g} s"
        )
    if not supervision.speaker:
        raise _UnusableError("no speaker: the supervision names none")
    offset = max(0.0, round(cut.start + supervision.start, _DIGITS))
    return Utterance(
        utt_id=supervision.id,
        split=split,
        audio=audio,
        offset=offset,
        duration=supervision.duration,
        speaker=supervision.speaker,
        text=supervision.text or "",
        alignment=_alignment(supervision, offset, tier),
    )


def _alignment(supervision: _Supervision, offset: float, tier: str) -> tuple[Segment, ...] | None:
    """The items of kind `tier`, or of its singular, with times from the supervision's start.

    `offset` is that start within the recording, in seconds.
    """
    kinds = supervision.alignment or {}
    items = kinds.get(tier, kinds.get(tier.removesuffix("s")))
    if items is None:
        return None
    spoken = RecordingAlignment.of(
        Segment(start, start + duration, symbol) for symbol, start, duration, *_ in items
    ).cut(offset, supervision.duration)
    if items and not spoken:
        raise _UnusableError(
            "alignment lies outside its supervision: its times must count from the recording's "
            "start, as Lhotse 1.17 and later have them"
        )
    return spoken


ADAPTER = RecordedAdapter(
    section=LhotseCorpus,
    entries=read_lhotse,
    contents=lambda config: (open_cuts(config, split) for split in config.splits.names),
    path_keys=("cuts", "audio_root"),
    has_durations=True,
)
