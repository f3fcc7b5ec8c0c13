"""From timed labels to one label a frame."""

from bisect import bisect_right
from collections.abc import Sequence

from pipeline.audio.frame_grid import FrameGrid
from pipeline.audio.utterance import Segment


def frame_labels(alignment: Sequence[Segment], num_frames: int, grid: FrameGrid) -> list[str]:
    """The label at each frame's centre; "" where no segment lies.

    A segment holds its start and not its end. Where two overlap, the one that starts later wins.
    """
    segments = sorted(alignment, key=lambda segment: segment.start)
    starts = [segment.start for segment in segments]
    labels = []
    for frame in range(num_frames):
        centre = grid.centre_seconds(frame)
        place = bisect_right(starts, centre) - 1
        inside = place >= 0 and centre < segments[place].end
        labels.append(segments[place].label if inside else "")
    return labels
