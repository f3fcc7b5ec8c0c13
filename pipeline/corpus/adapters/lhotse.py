"""Lhotse CutSets as JSON Lines; each supervision of a cut is an utterance. Lhotse is not needed.

Each recording must be one plain audio file: mixed or padded cuts, audio inside the manifest,
commands, several channels, and transforms that are applied on reading are rejected.
"""

import gzip
import zlib
from collections.abc import Iterator
from dataclasses import replace
from typing import Any, Literal, Self

from pydantic import Field, TypeAdapter, ValidationError, model_validator

from pipeline.audio.unusable import UnusableError
from pipeline.audio.utterance import AlignmentError, CorpusError, Reject, Segment, Utterance
from pipeline.config.corpus import RecordedCorpus
from pipeline.config.section import Address
from pipeline.corpus.alignment.plausibility import labelled_seconds
from pipeline.corpus.alignment.recording_alignment import RecordingAlignment
from pipeline.corpus.json_rows import Row, Seconds, Text, first_problem, json_rows
from pipeline.corpus.recorded import RecordedAdapter
from pipeline.corpus.text_table import read_text
from pipeline.storage.folders import Folder

# Lhotse rounds times: a supervision may extend beyond its cut by less than this.
_ROUNDING_SECONDS = 0.01
_GZIP = b"\x1f\x8b"
_DIGITS = 6  # decimals of a second; Lhotse's own times have eight

# For each kind, items of symbol, start, duration and a score.
_Item = tuple[Text, float, float] | tuple[Text, float, float, float | None]
_ITEMS = TypeAdapter(dict[str, tuple[_Item, ...]])


class LhotseCorpus(RecordedCorpus):
    """Lhotse CutSets, a JSON Lines file (`.jsonl` or `.jsonl.gz`) for each split.

    Alignments within the cuts are those of the kind `alignment_tier` (for `phones` also `phone`).
    """

    kind: Literal["lhotse"] = "lhotse"
    cuts: dict[str, Address]
    """The CutSet of each split, `.jsonl` or `.jsonl.gz`."""
    audio_root: Address = "."
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
    id: Text
    sources: tuple[_Source, ...]
    transforms: tuple[Any, ...] | None = None


class _Supervision(Row):
    id: Text
    start: float
    duration: float = Field(gt=0)
    text: Text | None = None
    speaker: Text | None = None
    # Its times count from the recording's start, whereas `start` counts from the cut's (Lhotse 1.17
    # and later).
    alignment: Any = None


class _Cut(Row):
    id: Text
    type: str
    start: Seconds = 0.0
    duration: float | None = None
    recording: _Recording | None = None
    supervisions: tuple[_Supervision, ...] = ()


def open_cuts(config: LhotseCorpus, split: str) -> bytes:
    """A split's CutSet, decompressed.

    Raises:
        CorpusError: the file does not exist or cannot be read, or is an incomplete gzip file.
    """
    uri = config.cuts[split]
    missing = f"there is no CutSet at '{uri}': check corpus.cuts.{split}"
    content = read_text(*Folder.around(uri), missing)
    try:
        is_packed = uri.endswith(".gz") or content.startswith(_GZIP)
        return gzip.decompress(content) if is_packed else content
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise CorpusError(f"the CutSet '{uri}' is cut short or damaged: {error}") from None


def read_lhotse(config: LhotseCorpus) -> Iterator[Utterance | Reject]:
    """Every supervision of every cut, in the order of the files."""
    for split in config.splits.names:
        name = Folder.around(config.cuts[split])[1]
        for source, cut in json_rows(_Cut, open_cuts(config, split), name):
            if isinstance(cut, Reject):
                yield cut
            else:
                yield from _read_cut(cut, source, split, config)


def _read_cut(
    cut: _Cut, source: str, split: str, config: LhotseCorpus
) -> Iterator[Utterance | Reject]:
    try:
        recording = _plain_recording(cut)
    except UnusableError as error:
        for utt_id in [supervision.id for supervision in cut.supervisions] or [cut.id]:
            yield Reject(utt_id, source, str(error))
        return
    for supervision in cut.supervisions:
        try:
            utterance = _utterance(cut, recording, supervision, split, config)
        except UnusableError as error:
            yield Reject(supervision.id, source, str(error))
            continue
        try:
            alignment = _alignment(supervision, utterance, config)
        except AlignmentError as error:
            yield Reject(supervision.id, source, str(error), "alignment")
            alignment = None
        yield replace(utterance, alignment=alignment)


def _plain_recording(cut: _Cut) -> _Recording:
    """The recording of a cut, which must have supervisions and be one plain file."""
    recording, problem = cut.recording, ""
    if cut.type not in {"MonoCut", "MultiCut"}:
        problem = f"not a plain cut of one recording: {cut.type} (save it as audio)"
    elif not cut.supervisions:
        problem = "no supervision: the cut has no text"
    elif recording is None:
        problem = "no audio: the cut has features only"
    elif recording.transforms:
        problem = "audio is transformed when it is read: save the transformed audio"
    elif len(recording.sources) != 1 or len(recording.sources[0].channels) != 1:
        problem = "audio has several channels or files: save each channel as one file"
    elif recording.sources[0].type not in {"file", "url"}:
        problem = f"audio is not in a file: its source is of type '{recording.sources[0].type}'"
    if problem or recording is None:
        raise UnusableError(problem)
    return recording


def _utterance(
    cut: _Cut, recording: _Recording, supervision: _Supervision, split: str, config: LhotseCorpus
) -> Utterance:
    end = supervision.start + supervision.duration
    length = end if cut.duration is None else cut.duration
    if supervision.start < -_ROUNDING_SECONDS or end > length + _ROUNDING_SECONDS:
        raise UnusableError(
            f"supervision extends beyond its cut: {supervision.start:g} to {end:g} s of "
            f"{length:g} s"
        )
    offset = max(0.0, round(cut.start + supervision.start, _DIGITS))
    return Utterance(
        utt_id=supervision.id,
        split=split,
        audio=Folder.at(config.audio_root).locate(recording.sources[0].source),
        offset=offset,
        duration=supervision.duration,
        speaker=supervision.speaker or "",
        text=supervision.text or "",
        recording=recording.id,
    )


def _alignment(
    supervision: _Supervision, utterance: Utterance, config: LhotseCorpus
) -> tuple[Segment, ...] | None:
    """The items of the config's kind, or of its singular, with times from the utterance's start."""
    try:
        kinds = _ITEMS.validate_python(supervision.alignment or {})
    except ValidationError as error:
        raise AlignmentError(f"broken alignment: {first_problem(error)}") from None
    tier, *_ = names = config.tiers(utterance.speaker, utterance.utt_id)
    items = next((kinds[name] for name in (*names, tier.removesuffix("s")) if name in kinds), None)
    if items is None:
        return None
    alignment = RecordingAlignment.of(
        Segment(start, start + duration, symbol) for symbol, start, duration, *_ in items
    )
    spoken = alignment.cut(utterance.offset, utterance.duration)
    if labelled_seconds(spoken) < labelled_seconds(alignment.segments) / 2:
        start, end = utterance.offset, utterance.offset + utterance.duration
        raise AlignmentError(
            f"alignment lies outside its supervision: {alignment.segments[0].start:g} to "
            f"{alignment.extent.end:g} s rather than {start:g} to {end:g} s; its times must be seconds "
            "from the recording's start, as Lhotse 1.17 and later have them"
        )
    return spoken


ADAPTER = RecordedAdapter(
    section=LhotseCorpus,
    entries=read_lhotse,
    contents=lambda config: (open_cuts(config, split) for split in config.splits.names),
    path_keys=("cuts", "audio_root"),
)
