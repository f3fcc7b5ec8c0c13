"""The alignment of a recording, from which each utterance takes its interval."""

from bisect import bisect_left
from collections.abc import Iterable
from dataclasses import dataclass

from pipeline.audio.utterance import Extent, Segment
from pipeline.corpus.alignment.plausibility import extent_of, require_intervals

# Decimals of a second, far below a sample: rounds off the error of subtracting an offset.
_DIGITS = 6


@dataclass(frozen=True)
class RecordingAlignment:
    """Segments by start; `longest` is the duration of the longest, in seconds."""

    segments: tuple[Segment, ...]
    longest: float
    extent: Extent

    @classmethod
    def of(cls, segments: Iterable[Segment]) -> "RecordingAlignment":
        """The segments, in any order.

        Raises:
            AlignmentError: as `require_intervals`.
        """
        ordered = tuple(sorted(segments, key=lambda segment: segment.start))
        require_intervals(ordered)
        longest = max((segment.end - segment.start for segment in ordered), default=0.0)
        return cls(ordered, longest, extent_of(ordered))

    def cut(self, offset: float, duration: float) -> tuple[Segment, ...]:
        """The segments within [offset, offset + duration), with times from `offset`; in seconds.

        Takes time in proportion to the interval, not to the recording, so that an hour with many
        utterances stays cheap.
        """
        end = offset + duration
        first = bisect_left(self.segments, offset - self.longest, key=lambda segment: segment.start)
        last = bisect_left(self.segments, end, key=lambda segment: segment.start)
        return tuple(
            Segment(
                round(max(segment.start - offset, 0.0), _DIGITS),
                round(min(segment.end, end) - offset, _DIGITS),
                segment.label,
            )
            for segment in self.segments[first:last]
            if segment.end > offset
        )
