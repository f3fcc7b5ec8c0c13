"""Texts of overlapping windows become one, whatever is cut off at their ends."""

import numpy as np
import pytest

from pipeline.asr.window_join import join
from pipeline.asr.word_times import TimedPiece, words_of

WORDS = ["one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "oh"]


def spell(words, start=0.0, seconds=0.08):
    """A piece for each character, one after the other."""
    characters = " ".join(words)
    return [
        TimedPiece(character, start + i * seconds, start + (i + 1) * seconds, 1.0)
        for i, character in enumerate(characters)
    ]


def read(pieces, low, high, generator, garbage=3):
    """What a window from `low` to `high` reads: jittered times, and other pieces at its ends."""
    inside = [piece for piece in pieces if low <= piece.start and piece.end <= high]
    jittered = [piece.later(generator.uniform(-0.06, 0.06)) for piece in inside]
    for index in [*range(garbage), *range(-garbage, 0)] if len(jittered) > 2 * garbage else ():
        jittered[index] = jittered[index]._replace(spelling=generator.choice(list("xyz")))
    return jittered


def text_of(pieces):
    return " ".join(word.text for word in words_of(pieces))


@pytest.mark.parametrize("vocabulary", [WORDS, ["one"], ["seen", "see"]])
@pytest.mark.parametrize("overlap", [1.5, 3.0])
def test_no_word_is_doubled_or_lost(vocabulary, overlap):
    generator = np.random.default_rng(0)
    for _ in range(50):
        words = list(generator.choice(vocabulary, 30))
        spoken = spell(words)
        end, cut = spoken[-1].end, generator.uniform(4.0, 6.0)
        left = read(spoken, 0.0, cut + overlap, generator)
        right = read(spoken, cut, end, generator)
        # Garbage at the outer ends is none of the join's business.
        left[:3], right[-3:] = spoken[:3], spoken[-3:]
        assert text_of(join(left, right, (cut, cut + overlap), " ")) == " ".join(words)


def test_windows_that_disagree_once_are_joined_where_they_agree():
    left, right = spell(["two", "forty", "six"]), spell(["fourty", "six", "nine"], start=0.32)
    right = right[:2] + [piece.later(-0.08) for piece in right[2:]]
    assert text_of(join(left, right, (0.32, 1.2), " ")) == "two forty six nine"


def test_silence_in_the_overlap_separates_words():
    left, right = spell(["one"]), spell(["two"], start=4.0)
    assert text_of(join(left, right, (1.0, 3.0), " ")) == "one two"
    assert text_of(join(left, right, (1.0, 3.0), "")) == "onetwo"
    assert join(left, [], (1.0, 3.0), " ") == left
    assert join([], right, (1.0, 3.0), " ") == right
    assert join([], [], (1.0, 3.0), " ") == []


def test_what_one_window_alone_has_read_is_cut_in_the_widest_gap():
    left, right = spell(["ab"], start=1.0), spell(["cd"], start=2.4)
    assert text_of(join(left, right, (0.9, 3.0), " ")) == "ab cd"
