"""From timed labels to the segment and the label of each frame."""

from bisect import bisect_right
from collections.abc import Sequence

from pipeline.audio.frame_grid import FrameGrid
from pipeline.audio.utterance import Segment


def frame_labels(alignment: Sequence[Segment], num_frames: int, grid: FrameGrid) -> list[str]:
    """The label of each frame's segment; "" where there is none."""
    return labels_of(frame_segments(alignment, num_frames, grid))


def labels_of(segments: Sequence[Segment | None]) -> list[str]:
    """The labels of frames; "" where there is no segment."""
    return ["" if segment is None else segment.label for segment in segments]


def frame_segments(
    alignment: Sequence[Segment], num_frames: int, grid: FrameGrid
) -> list[Segment | None]:
    """The segment at each frame's centre.

    A segment includes its start and excludes its end. Where two overlap, the later start wins.
    """
    segments = sorted(alignment, key=lambda segment: segment.start)
    starts = [segment.start for segment in segments]
    found: list[Segment | None] = []
    for frame in range(num_frames):
        centre = grid.centre_seconds(frame)
        index = bisect_right(starts, centre) - 1
        inside = index >= 0 and centre < segments[index].end
        found.append(segments[index] if inside else None)
    return found
