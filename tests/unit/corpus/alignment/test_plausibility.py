import math
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.audio.utterance import AlignmentError, Extent, Segment, Utterance
from pipeline.corpus.alignment.plausibility import (
    checked_alignment,
    extent_of,
    labelled_seconds,
    warn_of,
)

SECONDS = 2.0
WORDS = ((0.5, 0.9, "K"), (0.9, 1.4, "AE1"), (1.4, 1.8, "T"))
COMPLETE = ((0.0, 0.5, "SIL"), *WORDS, (1.8, 2.0, "SIL"))


def segments(rows, factor=1.0):
    return tuple(Segment(start * factor, end * factor, label) for start, end, label in rows)


def utterance(alignment, offset=0.0, **values):
    return Utterance("u", "train", "u.wav", offset, SECONDS, "s", "cat", alignment, **values)


def check(alignment, rate=16000, recording=None, **values):
    return checked_alignment(utterance(alignment, **values), rate, lambda _: recording)


def reason(*arguments, **values):
    with pytest.raises(AlignmentError) as caught:
        check(*arguments, **values)
    return str(caught.value)


def test_a_good_one_is_sorted_and_has_plain_labels():
    assert check(segments(COMPLETE[::-1])) == (
        Segment(0.0, 0.5, "sil"),
        Segment(0.5, 0.9, "K"),
        Segment(0.9, 1.4, "AE"),
        Segment(1.4, 1.8, "T"),
        Segment(1.8, 2.0, "sil"),
    )


def test_none_stays_none():
    assert check(None) is None


@pytest.mark.parametrize("rows", [WORDS, COMPLETE])
@pytest.mark.parametrize(
    ("factor", "rate", "cause"),
    [
        (1000, 16000, "milliseconds?"),
        (100, 16000, "frames of 10 ms?"),
        (50, 16000, "frames of 20 ms?"),
        (16000, 16000, "samples at 16000 Hz?"),
        (8000, 8000, "samples at 8000 Hz?"),
        (44100, 44100, "samples at 44100 Hz?"),
        (16000, 44100, "samples at 16000 Hz?"),
        (1e6, 16000, "microseconds?"),
        (1e7, 16000, "units of 100 ns?"),
    ],
)
def test_times_in_another_unit_are_refused_with_the_likely_one(rows, factor, rate, cause):
    message = reason(segments(rows, factor), rate)
    end = rows[-1][1]
    assert message == (
        f"alignment ends beyond its audio: at {end * factor:g} s of 2 s, "
        f"{float(f'{end * factor / 2:.3g}'):g} times its length: {cause}"
    )


@pytest.mark.parametrize("rate", [22050, 24000, 44100, 48000])
def test_samples_of_a_higher_rate_are_refused_with_it(rate):
    message = reason(segments(COMPLETE, rate / 16000))
    assert message.startswith("alignment ends beyond its audio: ")
    assert f"samples at {rate} Hz (corpus.alignment_sample_rate_hz)?" in message


@pytest.mark.parametrize("rate", [8000, 11025])
def test_samples_of_a_lower_rate_leave_the_end_without_labels(rate):
    message = reason(segments(COMPLETE, rate / 16000))
    end = f"it ends at {2 * rate / 16000:g} s of 2 s"
    assert message.startswith(f"alignment covers little of its audio: {end}, ")
    assert f"samples at {rate} Hz (corpus.alignment_sample_rate_hz)?" in message


def test_a_grid_of_other_audio_is_refused():
    message = reason(segments(COMPLETE, 10))
    assert message == (
        "alignment ends beyond its audio: at 20 s of 2 s, 10 times its length: of other audio?"
    )


def test_two_frames_more_are_rounding():
    assert check((*segments(WORDS), Segment(1.9, 2.04, "sil")))[-1].end == 2.04
    assert "ends beyond its audio: at 2.05 s of 2 s" in reason(
        (*segments(WORDS), Segment(1.9, 2.05, "sil"))
    )


def test_a_complete_one_may_end_a_quarter_early_and_one_of_words_anywhere():
    assert check((Segment(0.0, 0.5, "sil"), Segment(0.5, 1.5, "a"))) is not None
    assert "covers little of its audio: it ends at 1.4 s of 2 s" in reason(
        (Segment(0.0, 0.5, "sil"), Segment(0.5, 1.4, "a"))
    )
    assert check((Segment(0.1, 0.4, "a"),)) is not None


@pytest.mark.parametrize(
    ("bad", "expected"),
    [
        ((0.3, 0.2, "a"), "an interval that ends before it starts: 'a' from 0.3 to 0.2 s"),
        ((-0.1, 0.2, "a"), "a negative time: 'a' from -0.1 to 0.2 s"),
        ((math.nan, 0.2, "a"), "a time that is no number: 'a' from nan to 0.2 s"),
        ((0.1, math.inf, "a"), "a time that is no number: 'a' from 0.1 to inf s"),
        (
            (0.1, 0.6, "a"),
            "intervals that overlap: 'a' from 0.1 to 0.6 s and 'K' from 0.5 to 0.9 s",
        ),
    ],
)
def test_times_that_are_no_intervals_are_refused(bad, expected):
    assert reason((Segment(*bad), *segments(WORDS))) == f"alignment has {expected}"


def test_a_long_interval_is_compared_with_all_that_it_covers():
    inner = (Segment(0.0, 1.9, "a"), Segment(1.9, 1.95, "b"), Segment(0.3, 0.3, "c"))
    assert "overlap: 'a' from 0 to 1.9 s and 'c' from 0.3 to 0.3 s" in reason(inner)


def test_rounded_durations_and_empty_intervals_may_touch():
    rounded = (Segment(0.0, 0.51, "a"), Segment(0.5, 0.5, "b"), Segment(0.5, 1.0, "c"))
    assert check(rounded) == rounded


@pytest.mark.parametrize("alignment", [(), segments([(0.0, 2.0, "SIL")]), segments([(0, 2, "")])])
def test_one_that_says_nothing_is_refused(alignment):
    assert reason(alignment).startswith("alignment is empty: ")


def test_that_of_a_recording_is_compared_with_the_recording():
    part = segments(WORDS)
    assert check(part, recording=100.0, offset=10.0, extent=Extent(99.0, complete=True)) == (
        check(part)
    )
    assert reason(part, recording=100.0, offset=10.0, extent=Extent(1e5, complete=True)) == (
        "alignment ends beyond its audio: at 100000 s of 100 s, 1000 times its length: "
        "milliseconds?"
    )
    assert reason(
        part, recording=100.0, offset=10.0, extent=Extent(50.0, complete=True)
    ).startswith("alignment covers little of its audio: it ends at 50 s of 100 s")


def test_a_recording_is_not_opened_where_its_alignment_ends_with_the_utterance():
    extent = Extent(12.0, complete=True)
    part = utterance(segments(WORDS), offset=10.0, extent=extent)
    assert checked_alignment(part, 16000, lambda _: pytest.fail("opened")) is not None


def test_extents():
    assert extent_of(segments(COMPLETE)) == Extent(2.0, complete=True)
    assert extent_of(segments(WORDS)) == Extent(1.8, complete=False)
    assert extent_of(()) == Extent(0.0, complete=False)


def test_labelled_seconds_count_an_overlap_once():
    assert (
        labelled_seconds(segments([(0, 1, "a"), (0.5, 0.75, "b"), (0.9, 1.5, "c"), (3, 4, "d")]))
        == 2.5
    )


def test_one_that_labels_little_is_worth_a_warning():
    assert warn_of((Segment(0.5, 0.75, "a"), Segment(1.0, 1.25, "b")), SECONDS) == [
        "alignment labels little of its audio: 0.5 s of 2 s"
    ]
    assert warn_of((Segment(0.5, 1.25, "a"),), SECONDS) == []


def test_a_complete_one_that_ends_early_is_worth_a_warning():
    rows = [*COMPLETE[:-1], (1.8, 1.89, "sil")]
    assert warn_of(check(segments(rows)), SECONDS) == [
        "alignment ends before its audio: at 1.89 s of 2 s"
    ]
    assert warn_of(check(segments([*COMPLETE[:-1], (1.8, 1.91, "sil")])), SECONDS) == []
    assert warn_of(check(segments(WORDS)), SECONDS) == []


TIME = st.one_of(st.floats(-1, 3), st.floats(), st.integers(0, 20).map(lambda tenth: tenth / 10))
SEGMENT = st.builds(Segment, TIME, TIME, st.sampled_from(["", "SIL", "a", "AH0_B", "spn"]))


@settings(max_examples=500, deadline=None)
@given(st.lists(SEGMENT, max_size=6), st.sampled_from([8000, 16000, 44100]))
def test_what_passes_is_in_order_within_its_audio_and_says_something(alignment, rate):
    try:
        found = check(tuple(alignment), rate)
    except AlignmentError:
        return
    assert len(found) == len(alignment)
    assert all(0 <= each.start <= each.end <= SECONDS + 0.04 for each in found)
    assert all(first.end - second.start <= 0.02 for first, second in pairwise(found))
    assert {each.label for each in found} <= {"sil", "a", "AH", "spn"}
    assert any(each.label != "sil" for each in found)
