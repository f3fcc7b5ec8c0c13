"""Errors marked in what was recognised."""

import pytest

from pipeline.metrics.wer import score
from pipeline.report.transcript import Part, transcript


def test_every_kind_of_error_is_marked():
    found = transcript("the cat sat on a mat", "a the bat sat on mat")
    assert found.parts == [
        Part("", "a"),
        Part("the", "the"),
        Part("cat", "bat"),
        Part("sat on", "sat on"),
        Part("a", ""),
        Part("mat", "mat"),
    ]
    assert [part.is_error for part in found.parts] == [True, False, True, False, True, False]
    assert (found.errors, found.words) == (3, 6)


@pytest.mark.parametrize("texts", [("a b", "a b"), ("a b", ""), ("a b c", "c b a d")])
def test_errors_are_those_of_the_word_error_rate(texts):
    assert transcript(*texts).errors == score([texts[0]], [texts[1]]).errors


def test_without_a_reference_every_word_is_too_many():
    assert transcript(" ", "a b").parts == [Part("", "a b")]
    assert transcript("", "").parts == []
