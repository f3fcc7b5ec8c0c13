import math

from hypothesis import given
from hypothesis import strategies as st

from pipeline.audio.utterance import Segment
from pipeline.corpus.alignment.recording_alignment import RecordingAlignment

# Eighths of a second are exact in binary, so that nothing is left to rounding.
TIMES = st.integers(0, 80).map(lambda eighths: eighths / 8)
SEGMENTS = st.lists(
    st.tuples(TIMES, TIMES, st.sampled_from("ab")).map(
        lambda segment: Segment(min(segment[:2]), max(segment[:2]), segment[2])
    )
)


def test_an_interval_counts_from_its_own_start():
    track = RecordingAlignment.of(
        [Segment(2.0, 3.0, "b"), Segment(0.0, 2.0, "a"), Segment(3.0, 4.0, "c")]
    )
    assert track.cut(1.5, 2.0) == (
        Segment(0.0, 0.5, "a"),
        Segment(0.5, 1.5, "b"),
        Segment(1.5, 2.0, "c"),
    )
    assert track.cut(3.0, math.inf) == (Segment(0.0, 1.0, "c"),)
    assert track.cut(4.0, 1.0) == ()


def test_an_offset_leaves_no_rounding_error():
    assert RecordingAlignment.of([Segment(0.3, 0.4, "a")]).cut(0.1, 1.0) == (
        Segment(0.2, 0.3, "a"),
    )


@given(SEGMENTS, TIMES, TIMES)
def test_against_looking_at_every_segment(segments, offset, duration):
    end = offset + duration
    expected = [
        (max(segment.start, offset) - offset, min(segment.end, end) - offset, segment.label)
        for segment in segments
        if segment.end > offset and segment.start < end
    ]
    cut = [
        (segment.start, segment.end, segment.label)
        for segment in RecordingAlignment.of(segments).cut(offset, duration)
    ]
    assert sorted(cut) == sorted(expected)
