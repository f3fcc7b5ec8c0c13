"""What is said of the intervals beside WERs."""

import numpy as np
import pytest

from pipeline.commands.error_intervals import METHOD, error_intervals
from pipeline.metrics.word_errors import ScoredUtterance, WordErrors

MANY = "abcdefabc"
ONE_SEED = "One seed of kmeans: the intervals say nothing of other seeds."


def made(speakers=MANY, seeds=5):
    utterances = [ScoredUtterance(name, f"u{i}", "a b c d") for i, name in enumerate(speakers)]
    errors_NU = np.arange(seeds * len(speakers)).reshape(seeds, -1) % 3
    return WordErrors(tuple(utterances), errors_NU)


def test_scores_are_named_by_their_split():
    errors = {"test": {"kmeans": made(), "mine": made()}, "unseen": {"kmeans": made()}}
    found = error_intervals(errors, "kmeans", None)
    assert {"test.wer_low", "unseen.wer_low"} <= found.rows["kmeans"].keys()
    assert found.rows["mine"]["test.wer_reduction_p"] == 1
    assert found.notes == [METHOD]


def test_the_gap_to_the_best_variant_has_an_interval():
    none = WordErrors(made().utterances, np.zeros((1, 9), int))
    errors = {"test": {"kmeans": made(), "mine": made(), "continuous": none}}
    found = error_intervals(errors, "kmeans", "continuous")
    assert (
        found.rows["mine"]["test.gap_closed_low"] <= 0 <= found.rows["mine"]["test.gap_closed_high"]
    )


def test_variants_with_other_utterances_are_named():
    errors = {"test": {"kmeans": made(), "mine": made("abcdefab")}}
    found = error_intervals(errors, "kmeans", None)
    assert "test.wer_reduction_p" not in found.rows["mine"]
    assert found.notes[-1].endswith("for mine: scored on other utterances than kmeans.")


@pytest.mark.parametrize(
    ("speakers", "notes"),
    [
        (
            "aaaaaaaaa",
            [
                "test has one speaker: its intervals draw utterances alone, and say nothing of others."
            ],
        ),
        ("abcdeabcd", ["test has 5 speakers: for others its intervals are too narrow."]),
        (MANY, []),
    ],
)
def test_few_speakers_are_said(speakers, notes):
    found = error_intervals({"test": {"kmeans": made(speakers)}}, "kmeans", None)
    assert found.rows["kmeans"]["test.wer_speakers"] == len(set(speakers))
    assert found.notes == [METHOD, *notes]


def test_few_seeds_are_said_once():
    errors = {"kmeans": made(seeds=1), "a": made(seeds=2), "b": made(seeds=4), "c": made(seeds=5)}
    found = error_intervals({"test": errors, "unseen": errors}, "kmeans", None)
    assert found.notes == [
        METHOD,
        ONE_SEED,
        "Fewer than 5 seeds of a, b: for others the intervals are too narrow.",
    ]


def test_the_seeds_of_all_variants_are_said_in_short():
    found = error_intervals({"test": {"kmeans": made(seeds=1), "a": made(seeds=1)}}, "kmeans", None)
    assert found.notes[1] == "One seed of each variant: the intervals say nothing of other seeds."


def test_one_utterance_has_no_interval():
    found = error_intervals({"test": {"kmeans": made("a", seeds=1)}}, "kmeans", None)
    assert found.rows == {}
    assert found.notes == ["test has one utterance: no interval and no p."]


def test_nothing_evaluated_is_nothing_to_say():
    found = error_intervals({}, "kmeans", None)
    assert (found.rows, found.notes) == ({}, [])
