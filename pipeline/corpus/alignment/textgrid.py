"""Alignments from Praat TextGrids, as the Montreal Forced Aligner writes them."""

import re

from praatio.utilities import textgrid_io
from praatio.utilities.errors import PraatioException

from pipeline.audio.utterance import AlignmentError, Segment

_STRESS = re.compile(r"(?<=[A-Z])[0-2]$")
_ROUNDING_SECONDS = 1e-3


def parse_textgrid(content: bytes, tier: str = "phones") -> tuple[Segment, ...]:
    """The labelled intervals of one tier, without stress digits (`AH0` becomes `AH`).

    Raises:
        AlignmentError: it is not a TextGrid, is cut short, or lacks that tier.
    """
    try:
        # With empty intervals, because the last interval shows whether the tier is complete.
        parsed = textgrid_io.parseTextgridStr(_text(content), includeEmptyIntervals=True)
        intervals = {
            part["name"]: [(float(start), float(end), label) for start, end, label in entries]
            for part in parsed["tiers"]
            if part["class"] == "IntervalTier" and (entries := list(part["entries"]))
        }
        end_seconds = float(parsed["xmax"])
    except (PraatioException, LookupError, ValueError, TypeError) as error:
        raise AlignmentError(f"not readable as a TextGrid: {error}") from None
    if tier not in intervals:
        raise AlignmentError(f"TextGrid has no interval tier '{tier}': it has {sorted(intervals)}")
    if abs(intervals[tier][-1][1] - end_seconds) > _ROUNDING_SECONDS:
        raise AlignmentError("TextGrid is cut short")
    return tuple(
        Segment(start, end, _STRESS.sub("", label))
        for start, end, label in intervals[tier]
        if label
    )


def _text(content: bytes) -> str:
    utf16 = content[:2] in (b"\xff\xfe", b"\xfe\xff")
    return content.decode("utf-16" if utf16 else "utf-8-sig")
