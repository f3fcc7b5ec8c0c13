"""Whether an alignment can be what was said in its audio. Times are in seconds."""

import math
from collections.abc import Callable, Sequence
from itertools import pairwise

from pipeline.audio.utterance import SILENCE, AlignmentError, Extent, Segment, Utterance
from pipeline.corpus.alignment.labels import plain_label

# Two frames: aligners round to frames of their own, and count the last one as whole.
TOLERANCE_SECONDS = 0.04
# Formats with start and duration round both.
_OVERLAP_SECONDS = 0.02

# A complete alignment ends with its audio. Samples that are counted at 8000 or 11025 Hz, and taken
# to be of 16000 Hz, fall below this.
_COMPLETE_SHARE = 0.75
_EARLY_SECONDS = 0.1
# An alignment of speech alone may leave out a lot: of real ones of words, 1 % label less.
_SPARSE_SHARE = 1 / 3

_RATES_HZ = (8000, 11025, 22050, 24000, 32000, 44100, 48000)
_ASSUMED_RATE_HZ = 16000
_NEAR = 0.02


def checked_alignment(
    utterance: Utterance, sample_rate_hz: int, recording_seconds: Callable[[str], float]
) -> tuple[Segment, ...] | None:
    """The alignment by start and with plain labels, of an utterance whose duration is the true one.

    Args:
        utterance: as an adapter yields it.
        sample_rate_hz: of its audio.
        recording_seconds: the duration of a file; asked only where an alignment of a recording
            reaches beyond the utterance.

    Raises:
        AlignmentError: it cannot be the utterance's.
    """
    if utterance.alignment is None:
        return None
    ordered = sorted(utterance.alignment, key=lambda segment: segment.start)
    require_intervals(ordered)
    extent, seconds = utterance.extent, utterance.duration
    if extent is None:
        extent = extent_of(ordered)
        _require_own_clock(ordered, extent.end, utterance)
    else:
        seconds += utterance.offset
        if extent.end > seconds + TOLERANCE_SECONDS:
            seconds = recording_seconds(utterance.audio)
    _require_extent(extent, seconds, sample_rate_hz)
    _require_apart(ordered)
    labels = {label: plain_label(label) for label in {segment.label for segment in ordered}}
    segments = tuple(Segment(each.start, each.end, labels[each.label]) for each in ordered)
    _require_speech(segments)
    return segments


def warn_of(segments: Sequence[Segment], seconds: float) -> list[str]:
    """Why a checked alignment may be wrong, although it is used."""
    labelled, extent = labelled_seconds(segments), extent_of(segments)
    warnings = []
    if labelled < _SPARSE_SHARE * seconds:
        warnings.append(f"alignment labels little of its audio: {labelled:g} s of {seconds:g} s")
    if extent.complete and extent.end < seconds - _EARLY_SECONDS:
        warnings.append(f"alignment ends before its audio: at {extent.end:g} s of {seconds:g} s")
    return warnings


def extent_of(segments: Sequence[Segment]) -> Extent:
    """The extent of segments that are sorted by start."""
    first = segments[0] if segments else Segment(math.inf, math.inf, "")
    complete = first.start <= TOLERANCE_SECONDS and plain_label(first.label) == SILENCE
    return Extent(max((segment.end for segment in segments), default=0.0), complete)


def labelled_seconds(segments: Sequence[Segment]) -> float:
    """The time that has a label, silence included, of segments that are sorted by start."""
    total = end = 0.0
    for segment in segments:
        total += max(0.0, segment.end - max(end, segment.start))
        end = max(end, segment.end)
    return total


def require_intervals(segments: Sequence[Segment]) -> None:
    """Refuse times that are no intervals.

    Raises:
        AlignmentError: a time is negative, NaN or infinite, or an end lies before its start.
    """
    for segment in segments:
        if not (math.isfinite(segment.start) and math.isfinite(segment.end)):
            raise AlignmentError(f"alignment has a time that is no number: {_shown(segment)}")
        if segment.start < 0:
            raise AlignmentError(f"alignment has a negative time: {_shown(segment)}")
        if segment.end < segment.start:
            raise AlignmentError(
                f"alignment has an interval that ends before it starts: {_shown(segment)}"
            )


def _require_apart(segments: Sequence[Segment]) -> None:
    for first, second in pairwise(segments):
        if first.end - second.start > _OVERLAP_SECONDS:
            raise AlignmentError(
                f"alignment has intervals that overlap: {_shown(first)} and {_shown(second)}"
            )


def _require_speech(segments: Sequence[Segment]) -> None:
    if not segments:
        raise AlignmentError("alignment is empty: it has no label within the utterance")
    if all(segment.label == SILENCE for segment in segments):
        raise AlignmentError("alignment is empty: it labels nothing but silence")


def _require_extent(extent: Extent, seconds: float, sample_rate_hz: int) -> None:
    """Refuse an alignment that ends elsewhere than its audio of `seconds`.

    Raises:
        AlignmentError: it ends later, or much earlier although it is complete; with the likely cause.
    """
    lengths = f"at {extent.end:g} s of {seconds:g} s"
    cause = _cause(extent.end / seconds, sample_rate_hz)
    if extent.end > seconds + TOLERANCE_SECONDS:
        raise AlignmentError(f"alignment ends beyond its audio: {lengths}, {cause}")
    if extent.complete and extent.end < _COMPLETE_SHARE * seconds:
        raise AlignmentError(
            f"alignment covers little of its audio: it ends {lengths}, though it begins with a "
            f"labelled silence, {cause}"
        )


def _require_own_clock(segments: Sequence[Segment], end: float, utterance: Utterance) -> None:
    """Refuse an utterance's own alignment with the times of its recording."""
    first, last = utterance.offset, utterance.offset + utterance.duration
    if utterance.duration + TOLERANCE_SECONDS < end <= last + TOLERANCE_SECONDS and (
        segments[0].start >= first - TOLERANCE_SECONDS
    ):
        raise AlignmentError(
            f"alignment ends beyond its audio: at {end:g} s of {utterance.duration:g} s, which are "
            f"{first:g} to {last:g} s of the recording: do its times count from the recording's start?"
        )


def _cause(ratio: float, sample_rate_hz: int) -> str:
    """What times that are `ratio` times as long as the audio probably are."""
    return f"{float(f'{ratio:.3g}'):g} times its length: {_likely_unit(ratio, sample_rate_hz)}?"


def _likely_unit(ratio: float, sample_rate_hz: int) -> str:
    if math.isclose(ratio, 1000 / _ASSUMED_RATE_HZ, rel_tol=_NEAR):
        return "milliseconds read as samples"
    for rate in _RATES_HZ:
        if math.isclose(ratio, rate / _ASSUMED_RATE_HZ, rel_tol=_NEAR):
            return f"samples at {rate} Hz (corpus.alignment_sample_rate_hz)"
    units = {
        50.0: "frames of 20 ms",
        100.0: "frames of 10 ms",
        1e3: "milliseconds",
        float(_ASSUMED_RATE_HZ): f"samples at {_ASSUMED_RATE_HZ} Hz",
        float(sample_rate_hz): f"samples at {sample_rate_hz} Hz",
        1e6: "microseconds",
        1e7: "units of 100 ns",
    }
    # Speech may end before its audio does.
    near = (factor for factor in sorted(units) if factor / 2 < ratio < factor * 1.05)
    return units.get(next(near, 0.0), "of other audio")


def _shown(segment: Segment) -> str:
    return f"'{segment.label}' from {segment.start:g} to {segment.end:g} s"
