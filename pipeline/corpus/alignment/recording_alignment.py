"""The alignment of a recording, of which each utterance takes its stretch."""

from bisect import bisect_left
from collections.abc import Iterable
from dataclasses import dataclass

from pipeline.audio.utterance import Segment

# Far below a sample: takes off what is left behind the comma when an offset is subtracted.
_DIGITS = 6


@dataclass(frozen=True)
class RecordingAlignment:
    """Segments by start; `longest` is the duration of the longest, in seconds."""

    segments: tuple[Segment, ...]
    longest: float

    @classmethod
    def of(cls, segments: Iterable[Segment]) -> "RecordingAlignment":
        ordered = tuple(sorted(segments, key=lambda one: one.start))
        return cls(ordered, max((one.end - one.start for one in ordered), default=0.0))

    def cut(self, offset: float, duration: float) -> tuple[Segment, ...]:
        """What lies in [offset, offset + duration), counted from `offset`; all in seconds.

        Takes as long as the stretch has segments, so that hour-long recordings of many utterances
        stay cheap.
        """
        end = offset + duration
        first = bisect_left(self.segments, offset - self.longest, key=lambda one: one.start)
        last = bisect_left(self.segments, end, key=lambda one: one.start)
        return tuple(
            Segment(
                round(max(one.start - offset, 0.0), _DIGITS),
                round(min(one.end, end) - offset, _DIGITS),
                one.label,
            )
            for one in self.segments[first:last]
            if one.end > offset
        )
