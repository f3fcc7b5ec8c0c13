"""Segmentations that are drawn, against enumeration and against what SentencePiece makes of no chance."""

import random
from collections import Counter

import pytest
from reference.segmentation import probabilities

from pipeline.units.segmentation import drop_merges, sample_pieces

LOG_PROBS = {"a": -2.0, "b": -1.5, "c": -3.0, "ab": -2.2, "bc": -3.1, "abc": -4.0, "ca": -2.5}
RANKS = {"ab": 1, "abc": 2, "ca": 3, "bc": 4, "abab": 5}


def chance(seed):
    return random.Random(seed)  # noqa: S311 - a draw, no secret


@pytest.mark.parametrize("sharpness", [0.0, 0.3, 1.0])
def test_samples_are_as_frequent_as_enumeration_says(sharpness):
    expected = probabilities("abcabc", LOG_PROBS, sharpness)
    draws = chance(0)
    counts = Counter(
        tuple(sample_pieces("abcabc", LOG_PROBS, sharpness, draws)) for _ in range(20_000)
    )
    assert counts.keys() <= expected.keys()
    for pieces, probability in expected.items():
        assert counts[pieces] / 20_000 == pytest.approx(probability, abs=0.012)


def test_a_character_that_is_no_piece_is_one_by_itself():
    drawn = sample_pieces("axxb", LOG_PROBS, 0.5, chance(0))
    assert drawn == ["a", "x", "x", "b"]


def test_nothing_dropped_makes_every_merge_in_the_order_of_the_ranks():
    assert drop_merges("abcab", RANKS, 0.0, chance(0)) == ["abc", "ab"]
    assert drop_merges("cabcab", RANKS, 0.0, chance(0)) == ["c", "abc", "ab"]
    assert drop_merges("ababa", RANKS, 0.0, chance(0)) == ["abab", "a"]
    assert drop_merges("", RANKS, 0.0, chance(0)) == []


def test_everything_dropped_leaves_the_characters():
    assert drop_merges("abcab", RANKS, 1.0, chance(0)) == list("abcab")


def test_each_merge_that_is_due_is_dropped_by_itself():
    # Once "ab" was dropped, "bc" is due, and then "abc" of "a" and "bc".
    draws = chance(1)
    counts = Counter(tuple(drop_merges("abc", RANKS, 0.3, draws)) for _ in range(20_000))
    expected = {
        ("abc",): 0.7 * 0.7,
        ("ab", "c"): 0.7 * 0.3,
        ("a", "bc"): 0.3 * 0.7 * 0.3,
        ("a", "b", "c"): 0.3 * 0.3,
    }
    whole_by_bc = 0.3 * 0.7 * 0.7
    expected[("abc",)] += whole_by_bc
    assert counts.keys() == expected.keys()
    for pieces, probability in expected.items():
        assert counts[pieces] / 20_000 == pytest.approx(probability, abs=0.012)
