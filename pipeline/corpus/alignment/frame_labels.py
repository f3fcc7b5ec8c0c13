"""From timed labels to the segment and the label of each frame.

A frame has the label of the segment that its centre lies in: a segment includes its start and
excludes its end, and where two overlap, the later start wins.

Shapes: B utterances, S segments of them all, N spans of frames, F frames.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.audio.frame_grid import FrameGrid
from pipeline.audio.utterance import Segment

NO_SEGMENT = -1


@dataclass(frozen=True)
class Spans:
    """All frames of some utterances, one utterance after another, in spans; some are empty.

    Attributes:
        segment_N: which of the segments each span lies in, or NO_SEGMENT.
        num_frames_N: how many frames it has.
    """

    segment_N: NDArray[np.int64]
    num_frames_N: NDArray[np.int64]


def frame_spans(
    starts_S: NDArray[np.float64],
    ends_S: NDArray[np.float64],
    num_segments_B: NDArray[np.int64],
    num_frames_B: NDArray[np.int64],
    grid: FrameGrid,
) -> Spans:
    """The spans of utterances whose segments, in seconds, follow each other in any order of starts.

    Each segment has one, and before, between and after them are those in none.
    """
    segment_S = np.arange(len(starts_S))
    if not _in_order_of_starts(starts_S, num_segments_B):
        utterance_S = np.repeat(np.arange(len(num_segments_B)), num_segments_B)
        segment_S = np.lexsort((starts_S, utterance_S))  # of equal starts, the first one first
        starts_S, ends_S = starts_S[segment_S], ends_S[segment_S]
    num_frames_S = np.repeat(num_frames_B, num_segments_B)
    before_S = np.repeat(np.cumsum(num_frames_B) - num_frames_B, num_segments_B)
    longest = max(num_frames_B, default=0)
    bounds = np.zeros(2 * len(starts_S) + 2, dtype=np.int64)
    bounds[-1] = num_frames_B.sum()
    first_S, end_S, next_S = bounds[1:-1:2], bounds[2:-1:2], bounds[3::2]
    first_S[:] = before_S + np.minimum(_first_at(starts_S, longest, grid), num_frames_S)
    end_S[:] = before_S + np.minimum(_first_at(ends_S, longest, grid), num_frames_S)
    end_S[:] = np.clip(end_S, first_S, next_S)
    segment_N = np.full(len(bounds) - 1, NO_SEGMENT)
    segment_N[1::2] = segment_S
    return Spans(segment_N, np.diff(bounds))


def _in_order_of_starts(starts_S: NDArray[np.float64], num_segments_B: NDArray[np.int64]) -> bool:
    """Whether starts fall from one utterance to the next only."""
    falls = np.flatnonzero(starts_S[1:] < starts_S[:-1]) + 1
    return bool(np.isin(falls, np.cumsum(num_segments_B)).all())


def _first_at(
    seconds_S: NDArray[np.float64], num_frames: int, grid: FrameGrid
) -> NDArray[np.int64]:
    """The first frame whose centre is not before each time, as if frames went on after `num_frames`.

    It is that of the nearest centre or the next one. To search all centres takes ten times as long.
    """
    centres_T = grid.centre_seconds(np.arange(num_frames + 1, dtype=np.float64))
    place_S = (seconds_S - centres_T[0]) * grid.frames_per_second
    frame_S: NDArray[np.int64] = np.clip(np.rint(place_S), 0, num_frames).astype(np.int64)
    frame_S += centres_T[frame_S] < seconds_S
    return frame_S


def frame_labels(alignment: Sequence[Segment], num_frames: int, grid: FrameGrid) -> list[str]:
    """The label of each frame's segment; "" where there is none."""
    return labels_of(frame_segments(alignment, num_frames, grid))


def labels_of(segments: Sequence[Segment | None]) -> list[str]:
    """The labels of frames; "" where there is no segment."""
    return ["" if segment is None else segment.label for segment in segments]


def frame_segments(
    alignment: Sequence[Segment], num_frames: int, grid: FrameGrid
) -> list[Segment | None]:
    """The segment at each frame's centre."""
    starts_S = np.array([segment.start for segment in alignment], dtype=np.float64)
    ends_S = np.array([segment.end for segment in alignment], dtype=np.float64)
    counts = np.array([len(alignment)]), np.array([num_frames])
    spans = frame_spans(starts_S, ends_S, *counts, grid)
    segment_F = np.repeat(spans.segment_N, spans.num_frames_N).tolist()
    return [None if index == NO_SEGMENT else alignment[index] for index in segment_F]
