import math
from collections import Counter

import numpy as np
import pytest
from reference import significance as reference

from pipeline.metrics.significance import (
    draws,
    interval,
    reductions,
    resampled_sums,
    swap_test,
)


def simulated(random, num_speakers, spread):
    """Errors, words and speakers of 8 utterances for each speaker; the true WER is 0.3.

    A speaker's error rate is 0.3 plus or minus `spread`.
    """
    rates_S = 0.3 + spread * random.choice((-1, 1), size=num_speakers)
    speakers_U = np.repeat(np.arange(num_speakers), 8)
    words_U = random.integers(3, 12, size=len(speakers_U))
    return random.binomial(words_U, rates_S[speakers_U]), words_U, speakers_U


def test_a_round_draws_speakers_and_then_utterances_of_each():
    speakers_U = np.array(["b", "a", "b", "c", "b", "a"])
    sizes = Counter(speakers_U)
    drawn_speakers, drawn_utterances = Counter(), Counter()
    for drawn in draws(speakers_U, 3000, 1):
        names = list(speakers_U[drawn])
        times = 0
        while names:  # whole groups: three of b, two of a, one of c
            group, names = names[: sizes[names[0]]], names[sizes[names[0]] :]
            assert set(group) == {group[0]}
            drawn_speakers[group[0]] += 1
            times += 1
        assert times == 3
        drawn_utterances.update(drawn.tolist())
    for speaker in "abc":
        assert drawn_speakers[speaker] == pytest.approx(3000, rel=0.06)
    for utterance in range(6):
        assert drawn_utterances[utterance] == pytest.approx(3000, rel=0.06)


def test_sums_have_the_distribution_of_all_draws():
    counts, speakers = [5, 0, 1, 2], ["a", "a", "b", "b"]
    sums_R = resampled_sums(np.array(counts)[:, None], np.array(speakers), 20_000)[:, 0]
    expected = reference.distribution_of_sums(counts, speakers)
    found = Counter(sums_R.tolist())
    assert found.keys() == expected.keys()
    for value, chance in expected.items():
        assert found[value] / 20_000 == pytest.approx(float(chance), abs=0.012)


@pytest.mark.parametrize("seed", range(4))
def test_intervals_are_those_of_plain_loops_over_the_same_draws(seed):
    random = np.random.default_rng(seed)
    errors_U, words_U, speakers_U = simulated(random, 2 + seed, 0.1)
    base_U = errors_U + random.integers(0, 3, size=len(errors_U))
    same = [drawn.tolist() for drawn in draws(speakers_U, 200 + seed, seed)]
    counts_UC = np.column_stack([words_U, errors_U, base_U])
    words_R, errors_R, base_R = resampled_sums(counts_UC, speakers_U, 200 + seed, seed).T
    rates = reference.error_rates(same, errors_U.tolist(), words_U.tolist())
    assert (errors_R / words_R).tolist() == rates
    assert interval(errors_R / words_R) == reference.edges(rates)
    reduced = reference.relative_reductions(same, errors_U.tolist(), base_U.tolist())
    assert reductions(errors_R, base_R).tolist() == pytest.approx(reduced)
    assert interval(np.array(reduced)) == reference.edges(reduced)


def test_one_speaker_gives_the_interval_of_independent_utterances():
    errors_U = np.repeat((0, 1), (300, 100))
    sums_R = resampled_sums(errors_U[:, None], np.zeros(400))[:, 0]
    low, high = interval(sums_R / 400)  # normal: 0.25 -+ 1.96 sqrt(0.25 * 0.75 / 400)
    assert (low, high) == pytest.approx((0.2076, 0.2924), abs=0.004)


def test_a_golden_interval():
    assert interval(np.arange(1, 1001)) == (25.0, 975.0)


def test_a_reduction_of_no_errors():
    found = reductions(np.array([0, 2, 1, 3]), np.array([0, 0, 4, 2]))
    assert found.tolist() == [0.0, -math.inf, 0.75, -0.5]
    assert interval(found) == (-math.inf, 0.75)


@pytest.mark.parametrize(
    ("differences", "p"),
    [([1, 1, 1, 1, 1], 2 / 32), ([2, -1], 1 / 2 + 1 / 2), ([3, 1, 0, -1], 6 / 8), ([0, 0], 1.0)],
)
def test_golden_p(differences, p):
    base = [4] * len(differences)
    errors = [4 + each for each in differences]
    assert reference.exact_p(errors, base) == p
    assert swap_test(np.array(errors), np.array(base)) == pytest.approx(p, abs=0.01)


@pytest.mark.parametrize("seed", range(5))
def test_p_is_that_of_all_swaps(seed):
    random = np.random.default_rng(seed)
    errors_U = random.integers(0, 4, size=9)
    base_U = errors_U + random.integers(-1, 3, size=9)
    exact = reference.exact_p(errors_U.tolist(), base_U.tolist())
    found = swap_test(errors_U, base_U, rounds=10_000, seed=seed)
    assert found == pytest.approx(exact, abs=4 * math.sqrt(exact * (1 - exact) / 10_000) + 1e-4)
    assert swap_test(base_U, errors_U, rounds=10_000, seed=seed) == found  # two-sided


def test_p_is_never_zero():
    assert swap_test(np.zeros(200, int), np.ones(200, int), rounds=999) == 1 / 1000


def test_systems_that_are_alike_seldom_differ_significantly():
    random = np.random.default_rng(0)
    ps = [
        swap_test(*random.binomial(8, 0.3, size=(2, 60)), rounds=199, seed=seed)
        for seed in range(300)
    ]
    assert 0.02 <= np.mean(np.array(ps) <= 0.05) <= 0.08


def test_the_interval_covers_the_true_error_rate_of_other_speakers():
    random = np.random.default_rng(0)
    covered = Counter()
    for seed in range(200):
        errors_U, words_U, speakers_U = simulated(random, 20, 0.15)
        counts_UC = np.column_stack([words_U, errors_U])
        for way, groups_U in (("speakers", speakers_U), ("utterances", np.zeros(160))):
            words_R, errors_R = resampled_sums(counts_UC, groups_U, 300, seed).T
            low, high = interval(errors_R / words_R)
            covered[way] += low <= 0.3 <= high
    assert 0.90 <= covered["speakers"] / 200 <= 0.99
    # Speakers differ: as if utterances were independent, the interval would be too narrow.
    assert covered["utterances"] / 200 <= 0.80
