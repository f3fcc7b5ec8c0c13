"""How sure error rates and their differences are: bootstrap intervals and randomisation tests.

Everything is drawn from a fixed seed, so the same errors give the same figures. Counts are integers,
whose sums are exact in float64.
"""

from collections.abc import Iterator, Sequence

import numpy as np

ROUNDS = 10_000
SEED = 0
# The quantiles of the resampled values between which 95 % of them lie.
EDGES = (0.025, 0.975)
# Numbers that a block of rounds may hold at once.
BLOCK_SIZE = 2**20


def draws(speakers_U: np.ndarray, rounds: int = ROUNDS, seed: int = SEED) -> Iterator[np.ndarray]:
    """How often each of U utterances is drawn by a cluster bootstrap, in blocks of rounds (B x U).

    A round draws as many speakers as there are, with replacement, and for each of them as many of
    the speaker's utterances as there are, with replacement. With one speaker this is the ordinary
    bootstrap over utterances. `speakers_U` may hold names or numbers.
    """
    random = np.random.default_rng(seed)
    num_utterances = len(speakers_U)
    by_speaker_U = np.argsort(speakers_U, kind="stable")
    _, starts_S, sizes_S = np.unique(
        speakers_U[by_speaker_U], return_index=True, return_counts=True
    )
    for num_rounds in _blocks(rounds, num_utterances):
        drawn_BS = random.integers(len(sizes_S), size=(num_rounds, len(sizes_S)))
        sizes_BS = sizes_S[drawn_BS]
        sizes = sizes_BS.ravel()
        places = random.integers(np.repeat(sizes, sizes))
        utterances = by_speaker_U[np.repeat(starts_S[drawn_BS].ravel(), sizes) + places]
        cells = np.repeat(np.arange(num_rounds) * num_utterances, sizes_BS.sum(axis=1)) + utterances
        times = np.bincount(cells, minlength=num_rounds * num_utterances)
        yield times.reshape(num_rounds, num_utterances)


def resampled_sums(
    counts_UC: np.ndarray, speakers_U: np.ndarray, rounds: int = ROUNDS, seed: int = SEED
) -> np.ndarray:
    """The sums of C counts over the utterances of each round, R x C.

    All counts of a round come from the same utterances, as a paired comparison needs.
    """
    counts_UC = counts_UC.astype(np.float64)
    blocks = draws(speakers_U, rounds, seed)
    return np.concatenate([times_BU.astype(np.float64) @ counts_UC for times_BU in blocks])


def drawn_shares(num_seeds: int, rounds: int, seed: int | Sequence[int]) -> np.ndarray:
    """The share that each of N trainings has in each round, R x N, if N are drawn with replacement.

    Drawing rows (trainings) and columns (speakers) apart is the pigeonhole bootstrap of Owen, "The
    pigeonhole bootstrap" (2007): its variance is a little too large, but for what few rows miss.
    """
    random = np.random.default_rng(seed)
    return random.multinomial(num_seeds, np.full(num_seeds, 1 / num_seeds), rounds) / num_seeds


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


def gap_interval(
    errors_R: np.ndarray, base_errors_R: np.ndarray, best_errors_R: np.ndarray
) -> tuple[float, float]:
    """The 95 % interval of (base - errors) / (base - best), the share of a gap that is closed.

    A round without a gap (best no better than base) has no share: it counts as below the lower
    edge and as above the upper one, so that an edge is infinite where such rounds are many.
    """
    gap_R = base_errors_R - best_errors_R
    share_R = np.full(len(gap_R), np.inf)
    np.divide(base_errors_R - errors_R, gap_R, out=share_R, where=gap_R > 0)
    low, _ = interval(np.where(gap_R > 0, share_R, -np.inf))
    _, high = interval(share_R)
    return low, high


def swap_test(differences_G: np.ndarray, rounds: int = ROUNDS, seed: int = SEED) -> float:
    """The two-sided p of a difference between two systems, by approximate randomisation.

    `differences_G` are the differences of their errors (integers) on each of G groups, such as
    utterances or speakers. If the systems were alike, their errors on a group could as well be
    swapped. Each round swaps those of every group with probability 1/2; p = (n + 1) / (rounds + 1),
    where n rounds differ in total at least as much as the systems do. After Noreen,
    "Computer-intensive methods for testing hypotheses" (1989).

    A system that was trained several times is swapped as one: its errors on a group are the sum over
    its trainings, whose errors depend on each other through the group. So the trainings that there
    are count as the system, and chance in training is not tested (`relabel_test` tests that alone).
    """
    random = np.random.default_rng(seed)
    differences_D = differences_G[differences_G != 0].astype(np.float64)
    total = differences_D.sum()
    as_far = 0
    for num_rounds in _blocks(rounds, len(differences_D)):
        swapped_BD = random.integers(2, size=(num_rounds, len(differences_D)), dtype=np.int8)
        swapped_B = swapped_BD.astype(np.float64) @ differences_D
        as_far += int((np.abs(total - 2 * swapped_B) >= abs(total)).sum())
    return (as_far + 1) / (rounds + 1)


def relabel_test(
    errors_N: np.ndarray, base_errors_M: np.ndarray, rounds: int = ROUNDS, seed: int = SEED
) -> float:
    """The two-sided p of a difference between N trainings of one system and M of another.

    If the systems were alike, any of the N + M trainings (errors in total, integers) could as well
    be of the one or the other. Each round deals them out anew; p as in `swap_test`. It cannot be
    less than about 2 / (N + M choose N), or half of that if N and M differ: 0.1 for 3 and 3.
    """
    random = np.random.default_rng(seed)
    errors = np.concatenate([errors_N, base_errors_M])
    num = len(errors_N)
    dealt_RN = random.permuted(np.tile(errors, (rounds, 1)), axis=1)[:, :num]
    # N M times the difference of the means, in integers.
    differences_R = len(errors) * dealt_RN.sum(axis=1) - num * errors.sum()
    difference = len(errors) * errors_N.sum() - num * errors.sum()
    as_far = int((np.abs(differences_R) >= abs(difference)).sum())
    return (as_far + 1) / (rounds + 1)


def _blocks(rounds: int, width: int) -> Iterator[int]:
    """How many rounds each block has, at `width` numbers a round."""
    most = max(1, BLOCK_SIZE // max(1, width))
    for start in range(0, rounds, most):
        yield min(most, rounds - start)
