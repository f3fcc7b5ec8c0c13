"""How sure error rates and their differences are: bootstrap intervals and a paired test.

Everything is drawn from a fixed seed, so the same errors give the same figures.
"""

from collections.abc import Iterator

import numpy as np

ROUNDS = 10_000
SEED = 0
# The quantiles of the resampled values between which 95 % of them lie.
EDGES = (0.025, 0.975)


def draws(speakers_U: np.ndarray, rounds: int = ROUNDS, seed: int = SEED) -> Iterator[np.ndarray]:
    """The utterances (indices) of each round of a cluster bootstrap over U utterances.

    A round draws as many speakers as there are, with replacement, and for each of them as many of
    the speaker's utterances as there are, with replacement. With one speaker this is the ordinary
    bootstrap over utterances. `speakers_U` may hold names or numbers.
    """
    random = np.random.default_rng(seed)
    by_speaker_U = np.argsort(speakers_U, kind="stable")
    _, starts_S, sizes_S = np.unique(
        speakers_U[by_speaker_U], return_index=True, return_counts=True
    )
    for _ in range(rounds):
        drawn_S = random.integers(len(sizes_S), size=len(sizes_S))
        drawn_sizes_S = sizes_S[drawn_S]
        places = random.integers(np.repeat(drawn_sizes_S, drawn_sizes_S))
        yield by_speaker_U[np.repeat(starts_S[drawn_S], drawn_sizes_S) + places]


def resampled_sums(
    counts_UC: np.ndarray, speakers_U: np.ndarray, rounds: int = ROUNDS, seed: int = SEED
) -> np.ndarray:
    """The sums of C counts over the utterances of each round, R x C.

    All counts of a round come from the same utterances, as a paired comparison needs.
    """
    return np.array([counts_UC[drawn].sum(axis=0) for drawn in draws(speakers_U, rounds, seed)])


def interval(values_R: np.ndarray) -> tuple[float, float]:
    """The 95 % percentile interval of resampled values: both edges are among them."""
    low, high = np.quantile(values_R, EDGES, method="inverted_cdf")
    return float(low), float(high)


def reductions(errors_R: np.ndarray, base_errors_R: np.ndarray) -> np.ndarray:
    """(base - errors) / base of each round; 0 where neither has errors, -inf where base has none.

    Both count errors on the same utterances, so this is the relative reduction of the error rate.
    """
    saved_R = (base_errors_R - errors_R).astype(np.float64)
    reduced_R = np.where(saved_R < 0, -np.inf, 0.0)
    np.divide(saved_R, base_errors_R, out=reduced_R, where=base_errors_R > 0)
    return reduced_R


def swap_test(
    errors_U: np.ndarray, base_errors_U: np.ndarray, rounds: int = ROUNDS, seed: int = SEED
) -> float:
    """The two-sided p of a difference between two systems, by approximate randomisation.

    If the systems were alike, their errors (integers) on an utterance could as well be swapped. Each
    round swaps those of every utterance with probability 1/2; p = (n + 1) / (rounds + 1), where n
    rounds differ in total at least as much as the systems do. After Noreen, "Computer-intensive
    methods for testing hypotheses" (1989).
    """
    random = np.random.default_rng(seed)
    differences_U = errors_U - base_errors_U
    differences_D = differences_U[differences_U != 0]
    total = int(differences_D.sum())
    as_far = 0
    for _ in range(rounds):
        swapped = int(differences_D[random.integers(2, size=len(differences_D)) == 1].sum())
        as_far += abs(total - 2 * swapped) >= abs(total)
    return (as_far + 1) / (rounds + 1)
