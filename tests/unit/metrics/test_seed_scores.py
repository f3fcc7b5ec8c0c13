import math

import pytest

from pipeline.metrics.seed_scores import over_folds, over_seeds


def test_the_scores_of_the_only_seed_stay_as_they_are():
    row = {"test.wer": 0.3, "test.pnmi": math.nan}
    assert over_seeds({4: row}) is not row
    assert over_seeds({4: row}) == row


def test_several_seeds_give_their_mean_and_spread_and_each_score():
    found = over_seeds({0: {"test.wer": 0.2}, 3: {"test.wer": 0.4}, 5: {"test.wer": 0.6}})
    assert found == pytest.approx(
        {
            "seeds": 3,
            "test.wer": 0.4,
            "test.wer_num_seeds": 3,
            "test.wer_sd": 0.2,  # over n - 1
            "test.wer[seed 0]": 0.2,
            "test.wer[seed 3]": 0.4,
            "test.wer[seed 5]": 0.6,
        }
    )


def test_a_score_counts_the_seeds_that_have_it():
    found = over_seeds({0: {"a": 1.0, "b": 2.0, "c": math.nan}, 1: {"a": 3.0, "b": math.nan}})
    assert found == {
        "seeds": 2,
        "a": 2.0,
        "a_num_seeds": 2,
        "a_sd": pytest.approx(math.sqrt(2)),
        "a[seed 0]": 1.0,
        "a[seed 1]": 3.0,
        "b": 2.0,
        "b_num_seeds": 1,
        "b[seed 0]": 2.0,
    }


def test_what_all_seeds_share_is_one_value():
    row = {"hours": 3.0, "test.wer": 0.2}
    found = over_seeds({0: row, 1: row}, {"hours"})
    assert found["hours"] == 3.0
    assert [name for name in found if name.startswith("hours")] == ["hours"]
    assert found["test.wer_num_seeds"] == 2


def test_seeds_without_scores_have_none():
    assert over_seeds({0: {}, 1: {}}) == {"seeds": 2}


def test_folds_give_the_means_of_what_all_of_them_have():
    assert over_folds([{"a": 1.0, "b": 5.0}, {"a": 2.0}, {"a": 6.0, "b": 1.0}]) == {"a": 3.0}
    assert over_folds([{"a": 0.1, "b": 5.0}]) == {"a": 0.1, "b": 5.0}
