from itertools import pairwise

import numpy as np
import pytest
from reference import frame_labels as reference

from pipeline.audio.frame_grid import FrameGrid
from pipeline.audio.utterance import Segment
from pipeline.corpus.alignment.frame_labels import (
    NO_SEGMENT,
    frame_labels,
    frame_segments,
    frame_spans,
)

# Centres at 0.5, 1.5, 2.5, … seconds.
SECONDS = FrameGrid(1, 1, 1)
USUAL = FrameGrid(400, 320, 16000)


def test_label_at_each_centre():
    alignment = (Segment(0.0, 1.0, "a"), Segment(2.0, 4.0, "b"))
    assert frame_labels(alignment, 5, SECONDS) == ["a", "", "b", "b", ""]


def test_a_segment_is_told_from_another_of_its_label():
    alignment = (Segment(0.0, 1.0, "a"), Segment(1.0, 2.0, "a"))
    assert frame_segments(alignment, 3, SECONDS) == [*alignment, None]


def test_a_segment_includes_its_start_and_excludes_its_end():
    assert frame_labels((Segment(0.5, 1.5, "a"),), 3, SECONDS) == ["a", "", ""]


def test_order_does_not_matter_and_the_later_start_wins():
    alignment = (Segment(1.0, 2.0, "inner"), Segment(0.0, 3.0, "outer"))
    assert frame_labels(alignment, 2, SECONDS) == ["outer", "inner"]


def test_nothing_aligned():
    assert frame_labels((), 2, SECONDS) == ["", ""]


def test_against_a_label_for_every_sample():
    rng = np.random.default_rng(0)
    bounds = np.sort(rng.choice(32000, 41, replace=False))
    spans = [(int(a), int(b), str(n)) for n, (a, b) in enumerate(pairwise(bounds))]
    by_sample = np.full(32000, "", dtype=object)
    for first, last, label in spans:
        by_sample[first:last] = label
    alignment = [Segment(first / 16000, last / 16000, label) for first, last, label in spans]
    num_frames = USUAL.num_frames(32000)
    expected = [by_sample[200 + 320 * frame] for frame in range(num_frames)]
    assert frame_labels(alignment, num_frames, USUAL) == expected


@pytest.mark.parametrize("grid", [USUAL, FrameGrid(400, 320, 16000, -200), FrameGrid(25, 9, 11)])
def test_boundaries_at_centres_and_next_to_them(grid):
    chance = np.random.default_rng(1)
    centres = np.array([grid.centre_seconds(frame) for frame in range(3000)])
    bounds = np.nextafter(centres, centres + chance.integers(-1, 2, len(centres)))
    alignment = [Segment(a, b, "x") for a, b in pairwise(bounds.tolist())]
    for num_frames in (3000, 2000):  # the last segments lie behind the last frame
        expected = reference.frame_segments(alignment, num_frames, grid.centre_seconds)
        assert frame_segments(alignment, num_frames, grid) == expected


def random_alignment(chance):
    """Segments in any order, which overlap, leave gaps, lie behind the end or have no frame."""
    starts = np.round(chance.uniform(0, 6, chance.integers(0, 7)), chance.integers(0, 3))
    ends = starts + np.round(chance.exponential(1.0, len(starts)), 2)
    return [
        Segment(float(start), float(end), "abc"[index % 3])
        for index, (start, end) in enumerate(zip(starts, ends, strict=True))
    ]


@pytest.mark.parametrize("seed", range(20))
def test_segments_of_many_utterances_are_those_of_the_slow_oracle(seed):
    chance = np.random.default_rng(seed)
    alignments = [random_alignment(chance) for _ in range(12)]
    num_frames = chance.integers(0, 9, len(alignments)).tolist()
    segments = [segment for alignment in alignments for segment in alignment]
    spans = frame_spans(
        np.array([segment.start for segment in segments]),
        np.array([segment.end for segment in segments]),
        np.array([len(alignment) for alignment in alignments]),
        np.array(num_frames),
        SECONDS,
    )
    found = np.repeat(spans.segment_N, spans.num_frames_N)
    expected = [
        reference.frame_segments(alignment, number, SECONDS.centre_seconds)
        for alignment, number in zip(alignments, num_frames, strict=True)
    ]
    all_frames = [segment for of_utterance in expected for segment in of_utterance]
    assert [None if i == NO_SEGMENT else id(segments[i]) for i in found] == [
        segment and id(segment) for segment in all_frames
    ]
    assert [
        frame_segments(alignment, number, SECONDS)
        for alignment, number in zip(alignments, num_frames, strict=True)
    ] == expected
