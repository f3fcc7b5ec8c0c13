"""Which segment each frame lies in, a frame at a time."""

from bisect import bisect_right


def frame_segments(alignment, num_frames, centre_seconds):
    """The segment at each frame's centre, or None; of two, the one that starts later."""
    segments = sorted(alignment, key=lambda segment: segment.start)
    starts = [segment.start for segment in segments]
    found = []
    for frame in range(num_frames):
        centre = centre_seconds(frame)
        index = bisect_right(starts, centre) - 1
        inside = index >= 0 and centre < segments[index].end
        found.append(segments[index] if inside else None)
    return found
