import random
from itertools import groupby

import numpy as np
import pytest
from reference import units_per_phone as reference

from pipeline.audio.utterance import Segment
from pipeline.metrics.units_per_phone import UnitsPerPhone


def counted(*utterances):
    found = UnitsPerPhone()
    for segments, units in utterances:
        runs = [(segment, len(list(run))) for segment, run in groupby(segments)]
        speaks = [segment is not None and segment.label != "sil" for segment, _ in runs]
        lengths = [length for _, length in runs]
        found.add(np.array(speaks, dtype=bool), np.array(lengths, dtype=int), np.array(units))
    return found


def test_a_case_by_hand():
    """Two runs in the first a, one in b, three in the second a: two a phone."""
    a, b, again = Segment(0, 3, "a"), Segment(3, 5, "b"), Segment(5, 9, "a")
    found = counted(([a] * 3 + [b] * 2 + [again] * 4, [7, 7, 2, 2, 2, 5, 2, 2, 5]))
    assert (found.num_segments, found.num_runs) == (3, 6)
    assert found.scores() == {"units_per_phone": 2.0}


def test_a_run_across_a_boundary_counts_on_either_side():
    first, second = Segment(0, 2, "a"), Segment(2, 4, "a")
    assert counted(([first] * 2 + [second] * 2, [3, 3, 3, 3])).scores() == {"units_per_phone": 1}


def test_silence_and_frames_of_no_segment_do_not_count():
    a, sil = Segment(1, 3, "a"), Segment(3, 6, "sil")
    assert counted(([None, a, a, sil, sil, sil], [1, 0, 1, 0, 1, 2])).num_runs == 2
    assert counted(([None, sil], [0, 1])).scores() == {}
    assert counted(([], [])).scores() == {}


@pytest.mark.parametrize("seed", range(5))
def test_the_mean_is_that_of_loops(seed):
    chance = random.Random(seed)  # noqa: S311
    utterances = []
    for _ in range(6):
        frames = []
        for start in range(chance.randrange(9)):
            segment = Segment(start, start + 1, chance.choice(("a", "b", "sil")))
            frames += [chance.choice((segment, segment, None))] * chance.randrange(1, 6)
        utterances.append((frames, [chance.randrange(3) for _ in frames]))
    expected = reference.units_per_phone(utterances)
    assert counted(*utterances).scores()["units_per_phone"] == pytest.approx(expected, rel=1e-12)


def test_a_segment_without_a_frame_does_not_count():
    found = UnitsPerPhone()
    found.add(np.array([True, True, False, True]), np.array([0, 2, 1, 0]), np.array([4, 5, 5]))
    assert (found.num_segments, found.num_runs) == (1, 2)


def test_what_does_not_fit_is_rejected():
    with pytest.raises(ValueError, match="spans of 2 frames and 1 units"):
        UnitsPerPhone().add(np.array([False]), np.array([2]), np.array([0]))
