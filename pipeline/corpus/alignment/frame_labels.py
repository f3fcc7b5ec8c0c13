"""From timed labels to one label for each frame."""

from bisect import bisect_right
from collections.abc import Sequence

from pipeline.audio.frame_grid import FrameGrid
from pipeline.audio.utterance import Segment


def frame_labels(alignment: Sequence[Segment], num_frames: int, grid: FrameGrid) -> list[str]:
    """The label at each frame's centre; "" where there is no segment.

    A segment includes its start and excludes its end. Where two overlap, the later start wins.
    """
    segments = sorted(alignment, key=lambda segment: segment.start)
    starts = [segment.start for segment in segments]
    labels = []
    for frame in range(num_frames):
        centre = grid.centre_seconds(frame)
        index = bisect_right(starts, centre) - 1
        inside = index >= 0 and centre < segments[index].end
        labels.append(segments[index].label if inside else "")
    return labels
