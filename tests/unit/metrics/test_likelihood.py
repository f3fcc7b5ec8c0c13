import math

import numpy as np
import pytest
from reference import likelihood as reference

from pipeline.metrics.likelihood import likelihood_scores


def test_a_case_by_hand():
    """Four symbols of half a bit's probability each and two of a quarter: eight bits in two seconds."""
    scores = likelihood_scores([3 * math.log(0.5), math.log(0.5) + 2 * math.log(0.25)], 6, 2.0)
    assert scores == {
        "lm_bits_per_second": pytest.approx(4.0),
        "lm_perplexity": pytest.approx(2 ** (8 / 6)),
        "lm_perplexity_per_second": pytest.approx(16.0),
        "lm_symbols_per_second": 3.0,
    }


def test_scores_are_those_of_a_loop_over_symbols():
    chance = np.random.default_rng(0)
    probabilities = [chance.uniform(0.05, 1, number).tolist() for number in (3, 1, 7)]
    seconds = [0.5, 0.25, 1.75]
    log_probs = [sum(map(math.log, each)) for each in probabilities]
    scores = likelihood_scores(log_probs, 11, sum(seconds))
    expected = reference.bits_per_second(probabilities, seconds)
    assert scores["lm_bits_per_second"] == pytest.approx(expected, rel=1e-12)
    assert scores["lm_perplexity"] == pytest.approx(reference.perplexity(probabilities), rel=1e-12)


def test_longer_pieces_of_the_same_probability_cost_the_same():
    """What a second costs does not depend on how many symbols it is cut into."""
    few, many = (likelihood_scores([-10.0], number, 1.0) for number in (2, 20))
    assert few["lm_bits_per_second"] == many["lm_bits_per_second"]
    assert few["lm_perplexity"] > many["lm_perplexity"]


def test_a_hopeless_model_has_finite_scores():
    scores = likelihood_scores([-1e5], 200, 1.0)
    assert all(map(math.isfinite, scores.values()))


@pytest.mark.parametrize(("number", "seconds"), [(0, 1.0), (1, 0.0)])
def test_nothing_is_an_error(number, seconds):
    with pytest.raises(ValueError, match="no utterance was scored"):
        likelihood_scores([], number, seconds)
