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
    """The spans of utterances whose segments, in seconds, follow each other in any order of starts."""
    centres_T = np.array([grid.centre_seconds(t) for t in range(max(num_frames_B, default=0))])
    utterance_S = np.repeat(np.arange(len(num_segments_B)), num_segments_B)
    segment_S = _in_order_of_starts(starts_S, utterance_S)
    first_S = np.minimum(np.searchsorted(centres_T, starts_S[segment_S]), num_frames_B[utterance_S])
    # Before the first segment of each utterance comes an empty one, for the frames before it.
    before_B = np.cumsum(num_segments_B) - num_segments_B
    segment_M = np.insert(segment_S, before_B, NO_SEGMENT)
    first_M = np.insert(first_S, before_B, 0)
    next_M = np.append(first_M[1:], 0)
    next_M[np.cumsum(num_segments_B + 1) - 1] = num_frames_B
    end_M = np.insert(np.searchsorted(centres_T, ends_S[segment_S]), before_B, 0)
    end_M = np.clip(end_M, first_M, next_M)
    # What a segment leaves up to the next one lies in none.
    return Spans(
        np.column_stack((segment_M, np.full_like(segment_M, NO_SEGMENT))).ravel(),
        np.column_stack((end_M - first_M, next_M - end_M)).ravel(),
    )


def _in_order_of_starts(
    starts_S: NDArray[np.float64], utterance_S: NDArray[np.int64]
) -> NDArray[np.int64]:
    """The segments by utterance and start; of equal starts, the first one first."""
    falls_S = (starts_S[1:] < starts_S[:-1]) & (utterance_S[1:] == utterance_S[:-1])
    return np.lexsort((starts_S, utterance_S)) if falls_S.any() else np.arange(len(starts_S))


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
