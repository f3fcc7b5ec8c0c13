import math
from collections import Counter

import numpy as np
import pytest
from reference import significance as reference

from pipeline.metrics import significance
from pipeline.metrics.significance import (
    drawn_shares,
    draws,
    gap_interval,
    interval,
    reductions,
    relabel_test,
    resampled_sums,
    swap_test,
)


def simulated(random, num_speakers, spread, num_seeds=1, seed_sd=0.0):
    """Errors (N x U), words and speakers of 8 utterances for each speaker; the true WER is 0.3.

    A speaker's error rate is 0.3 plus or minus `spread`, and what the training's seed adds to it.
    """
    rates_S = 0.3 + spread * random.choice((-1, 1), size=num_speakers)
    speakers_U = np.repeat(np.arange(num_speakers), 8)
    words_U = random.integers(3, 12, size=len(speakers_U))
    rates_NU = rates_S[speakers_U] + seed_sd * random.normal(size=(num_seeds, 1))
    return random.binomial(words_U, np.clip(rates_NU, 0, 1)), words_U, speakers_U


def drawn_utterances(speakers_U, rounds, seed):
    """The utterances of each round, as a list of indices."""
    return [
        np.repeat(np.arange(len(speakers_U)), times_U).tolist()
        for block_BU in draws(speakers_U, rounds, seed)
        for times_U in block_BU
    ]


def test_a_round_draws_speakers_and_then_utterances_of_each(monkeypatch):
    monkeypatch.setattr(significance, "BLOCK_SIZE", 6 * 700)  # 5 blocks, the last one smaller
    speakers_U = np.array(["b", "a", "b", "c", "b", "a"])
    sizes = Counter(speakers_U)
    drawn_speakers, drawn = Counter(), Counter()
    rounds = drawn_utterances(speakers_U, 3000, 1)
    assert len(rounds) == 3000
    for utterances in rounds:
        found = Counter(speakers_U[utterances])
        # Whole groups: three of b, two of a, one of c.
        assert not any(number % sizes[name] for name, number in found.items())
        times = {name: number // sizes[name] for name, number in found.items()}
        assert sum(times.values()) == 3
        drawn_speakers.update(times)
        drawn.update(utterances)
    for speaker in "abc":
        assert drawn_speakers[speaker] == pytest.approx(3000, rel=0.06)
    for utterance in range(6):
        assert drawn[utterance] == pytest.approx(3000, rel=0.06)


def test_sums_have_the_distribution_of_all_draws():
    counts, speakers = [5, 0, 1, 2], ["a", "a", "b", "b"]
    sums_R = resampled_sums(np.array(counts)[:, None], np.array(speakers), 20_000)[:, 0]
    expected = reference.distribution_of_sums(counts, speakers)
    found = Counter(sums_R.tolist())
    assert found.keys() == expected.keys()
    for value, chance in expected.items():
        assert found[value] / 20_000 == pytest.approx(float(chance), abs=0.012)


def test_means_over_seeds_have_the_distribution_of_all_draws():
    counts_NU, speakers = [[5, 0, 1], [2, 2, 0]], ["a", "a", "b"]
    sums_RN = resampled_sums(np.array(counts_NU).T, np.array(speakers), 20_000)
    means_R = (sums_RN * drawn_shares(2, 20_000, 1)).sum(axis=1)
    expected = reference.distribution_of_means(counts_NU, speakers)
    found = Counter(means_R.tolist())
    assert found.keys() == expected.keys()
    for value, chance in expected.items():
        assert found[float(value)] / 20_000 == pytest.approx(float(chance), abs=0.012)


def test_one_training_has_all_of_each_round():
    assert drawn_shares(1, 5, 0).tolist() == [[1.0]] * 5


@pytest.mark.parametrize("seed", range(4))
def test_intervals_are_those_of_plain_loops_over_the_same_draws(seed):
    random = np.random.default_rng(seed)
    [errors_U], words_U, speakers_U = simulated(random, 2 + seed, 0.1)
    base_U = errors_U + random.integers(0, 3, size=len(errors_U))
    same = drawn_utterances(speakers_U, 200 + seed, seed)
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


@pytest.mark.parametrize("seed", range(4))
def test_the_share_of_a_gap_has_the_interval_of_plain_loops(seed):
    random = np.random.default_rng(seed)
    best_R, base_R = random.integers(0, 9, size=300), random.integers(9 - seed, 30, size=300)
    errors_R = random.integers(0, 30, size=300)
    found = gap_interval(errors_R, base_R, best_R)
    assert found == reference.gap_edges(errors_R.tolist(), base_R.tolist(), best_R.tolist())
    assert all(map(math.isfinite, found))


def test_a_gap_that_may_not_be_there_has_no_bounds():
    best_R = np.where(np.arange(100) < 3, 10, 5)  # 3 % of the rounds have no gap
    assert gap_interval(np.full(100, 7), np.full(100, 10), best_R) == (-math.inf, math.inf)


@pytest.mark.parametrize(
    ("differences", "p"),
    [([1, 1, 1, 1, 1], 2 / 32), ([2, -1], 1 / 2 + 1 / 2), ([3, 1, 0, -1], 6 / 8), ([0, 0], 1.0)],
)
def test_golden_p(differences, p):
    base = [4] * len(differences)
    errors = [4 + each for each in differences]
    assert reference.exact_p(errors, base) == p
    assert swap_test(np.array(differences)) == pytest.approx(p, abs=0.01)


@pytest.mark.parametrize("seed", range(5))
def test_p_is_that_of_all_swaps(seed):
    random = np.random.default_rng(seed)
    errors_U = random.integers(0, 4, size=9)
    base_U = errors_U + random.integers(-1, 3, size=9)
    exact = reference.exact_p(errors_U.tolist(), base_U.tolist())
    found = swap_test(errors_U - base_U, rounds=10_000, seed=seed)
    assert found == pytest.approx(exact, abs=4 * math.sqrt(exact * (1 - exact) / 10_000) + 1e-4)
    assert swap_test(base_U - errors_U, rounds=10_000, seed=seed) == found  # two-sided


@pytest.mark.parametrize(
    ("errors", "base", "p"),
    [([1, 2, 3], [7, 8, 9], 2 / 20), ([1, 2], [7, 8, 9], 1 / 10), ([4, 4], [4, 4], 1.0)],
)
def test_golden_p_of_trainings(errors, base, p):
    assert reference.exact_relabel_p(errors, base) == p
    assert relabel_test(np.array(errors), np.array(base)) == pytest.approx(p, abs=0.01)


@pytest.mark.parametrize("seed", range(4))
def test_p_of_trainings_is_that_of_all_ways_to_deal_them_out(seed):
    random = np.random.default_rng(seed)
    errors_N, base_M = random.integers(0, 9, size=2 + seed), random.integers(3, 12, size=4)
    exact = reference.exact_relabel_p(errors_N.tolist(), base_M.tolist())
    assert relabel_test(errors_N, base_M) == pytest.approx(exact, abs=0.02)


def test_p_is_never_zero(monkeypatch):
    monkeypatch.setattr(significance, "BLOCK_SIZE", 200 * 300)
    assert swap_test(np.ones(200, int), rounds=999) == 1 / 1000
    assert relabel_test(np.arange(9), 99 + np.arange(9), rounds=999) == 1 / 1000


@pytest.mark.parametrize(("num_seeds", "num_base_seeds"), [(1, 1), (3, 3), (1, 4)])
def test_systems_that_are_alike_seldom_differ_significantly(num_seeds, num_base_seeds):
    random = np.random.default_rng(0)
    ps = []
    for seed in range(300):
        # Seeds share what makes an utterance hard.
        rates_U = random.beta(2, 5, size=60)
        errors_U = random.binomial(8, rates_U, size=(num_seeds, 60)).sum(axis=0)
        base_U = random.binomial(8, rates_U, size=(num_base_seeds, 60)).sum(axis=0)
        differences_U = num_base_seeds * errors_U - num_seeds * base_U
        ps.append(swap_test(differences_U, rounds=199, seed=seed))
    assert 0.02 <= np.mean(np.array(ps) <= 0.05) <= 0.08


def test_trainings_that_differ_by_luck_are_found_out_by_relabelling_alone():
    """Swapping utterances takes the trainings as they are: other seeds may turn the difference round."""
    random = np.random.default_rng(0)
    swapped, relabelled = [], []
    for seed in range(200):
        rates_NU = np.clip(0.2 + 0.03 * random.normal(size=(10, 1)), 0, 1).repeat(100, axis=1)
        errors_NU = random.binomial(8, rates_NU)
        base_NU = errors_NU[5:]
        swapped.append(swap_test((errors_NU[:5] - base_NU).sum(axis=0), rounds=199, seed=seed))
        totals_N = errors_NU.sum(axis=1)
        relabelled.append(relabel_test(totals_N[:5], totals_N[5:], rounds=399, seed=seed))
    assert 0.02 <= np.mean(np.array(relabelled) <= 0.05) <= 0.08
    assert np.mean(np.array(swapped) <= 0.05) >= 0.3


def coverage(num_trials, num_speakers, spread, num_seeds, seed_sd):
    """How often the interval holds the true rate: as it is drawn, without seeds, without speakers."""
    random = np.random.default_rng(0)
    covered = Counter()
    for seed in range(num_trials):
        errors_NU, words_U, speakers_U = simulated(random, num_speakers, spread, num_seeds, seed_sd)
        counts_UC = np.column_stack([words_U, errors_NU.T])
        drawn_RN = drawn_shares(num_seeds, 300, seed)
        fixed_RN = np.full((300, num_seeds), 1 / num_seeds)
        for way, groups_U, shares_RN in (
            ("all", speakers_U, drawn_RN),
            ("seeds fixed", speakers_U, fixed_RN),
            ("speakers ignored", np.zeros(len(words_U)), drawn_RN),
        ):
            words_R, *sums_NR = resampled_sums(counts_UC, groups_U, 300, seed).T
            low, high = interval((np.transpose(sums_NR) * shares_RN).sum(axis=1) / words_R)
            covered[way] += low <= 0.3 <= high
    return {way: number / num_trials for way, number in covered.items()}


def test_the_interval_covers_the_true_error_rate_of_other_speakers():
    found = coverage(200, 20, 0.15, 1, 0.0)
    assert 0.90 <= found["all"] <= 0.99
    # Speakers differ: as if utterances were independent, the interval would be too narrow.
    assert found["speakers ignored"] <= 0.80


def test_the_interval_covers_the_true_error_rate_of_other_seeds():
    found = coverage(200, 20, 0.05, 5, 0.06)
    assert 0.90 <= found["all"] <= 0.99
    assert found["seeds fixed"] <= 0.75
    # Two seeds are too few, as `compare` says.
    assert coverage(200, 20, 0.05, 2, 0.06)["all"] <= 0.90


def test_the_interval_of_a_reduction_seldom_leaves_out_zero_where_variants_are_alike():
    """Unlike the test that swaps utterances, it counts that trainings differ by luck."""
    random = np.random.default_rng(0)
    left_out = 0
    for seed in range(150):
        rates_NU = 0.2 + 0.03 * random.normal(size=(6, 1)).repeat(100, axis=1)
        counts_UN = random.binomial(8, np.clip(rates_NU, 0, 1)).T
        sums_NR = resampled_sums(counts_UN, np.repeat(np.arange(10), 10), 300, seed).T
        errors_R, base_R = (
            (of_variant_NR.T * drawn_shares(3, 300, (seed, variant))).sum(axis=1)
            for variant, of_variant_NR in enumerate(np.split(sums_NR, 2))
        )
        low, high = interval(reductions(errors_R, base_R))
        left_out += not low <= 0 <= high
    assert left_out / 150 <= 0.08
