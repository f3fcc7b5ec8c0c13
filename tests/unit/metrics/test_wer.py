import random

import pytest
from reference.wer import edit_distance

from pipeline.metrics.wer import ErrorCounts, cer, score, score_each


def test_counts_of_known_pairs():
    counts = score_each(["a b c", "a b", "a", "a b c"], ["a x c", "a b b", "", "a b c"])
    assert counts == [
        ErrorCounts(substitutions=1, hits=2),
        ErrorCounts(insertions=1, hits=2),
        ErrorCounts(deletions=1),
        ErrorCounts(hits=3),
    ]
    assert [c.reference_words for c in counts] == [3, 2, 1, 3]


def test_total_is_the_sum_over_words_not_the_mean_over_utterances():
    total = score(["a b c d", "e"], ["a b c d", "x"])
    assert total == ErrorCounts(substitutions=1, hits=4)
    assert total.wer == 1 / 5


def test_random_pairs_against_edit_distance():
    draw = random.Random(0)  # noqa: S311 (test data, no secret)
    for _ in range(60):
        reference = draw.choices("abc", k=draw.randint(1, 7))
        hypothesis = draw.choices("abc", k=draw.randint(0, 7))
        counts = score([" ".join(reference)], [" ".join(hypothesis)])
        assert counts.wer * len(reference) == pytest.approx(edit_distance(reference, hypothesis))
        assert counts.reference_words == len(reference)
        heard = counts.hits + counts.substitutions + counts.insertions
        assert heard == len(hypothesis)


def test_character_errors_count_spaces():
    references, hypotheses = ["ab cd", "e"], ["abcd", "f"]
    errors = sum(map(edit_distance, references, hypotheses))
    assert cer(references, hypotheses) == pytest.approx(errors / 6)


def test_insertions_alone_can_exceed_one():
    assert score(["a"], ["a b c"]).wer == 2.0


def test_empty_reference_counts_insertions():
    assert score([""], ["a b"]) == ErrorCounts(insertions=2)
    with pytest.raises(ValueError, match="at least one reference word"):
        _ = score([""], ["a"]).wer


def test_unequal_numbers_are_rejected():
    with pytest.raises(ValueError, match="shorter"):
        score(["a", "b"], ["a"])
