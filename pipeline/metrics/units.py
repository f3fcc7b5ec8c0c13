"""How a corpus uses its units: how many of them, how evenly, and at what bit rate."""

import math
from collections.abc import Iterable

import numpy as np
from numpy.typing import ArrayLike, NDArray


def unit_statistics(
    utterances: Iterable[ArrayLike], num_units: int, frames_per_second: float
) -> dict[str, float]:
    """Scores of a token corpus, from the units of each frame, utterance by utterance.

    Returns:
        `codebook_usage`: units that occur, as a share of the codebook. `codebook_perplexity`: exp of
        the entropy of the unigram distribution. `bit_rate`: that entropy in bits x frames per
        second. `bit_rate_log2k`: log2 K bits a unit instead, what units cost whatever they are.
        `deduplicated_bit_rate` and `deduplicated_bit_rate_log2k`: the same two where each run of
        one unit counts once, without durations.

    Raises:
        ValueError: there is no frame, a unit is out of range, or the frame rate is not positive.
    """
    if not frames_per_second > 0:
        raise ValueError(f"frames_per_second must be positive, got {frames_per_second}")
    counts_K = np.zeros(num_units, dtype=np.int64)
    run_counts_K = np.zeros(num_units, dtype=np.int64)
    for utterance in utterances:
        units_N = units_in_range(utterance, num_units)
        counts_K += np.bincount(units_N, minlength=num_units)
        run_counts_K += np.bincount(deduplicate(units_N), minlength=num_units)
    usage, perplexity = usage_of_counts(counts_K), perplexity_of_counts(counts_K)
    runs_per_second = frames_per_second * float(run_counts_K.sum() / counts_K.sum())
    return {
        "codebook_usage": usage,
        "codebook_perplexity": perplexity,
        "bit_rate": math.log2(perplexity) * frames_per_second,
        "bit_rate_log2k": math.log2(num_units) * frames_per_second,
        "deduplicated_bit_rate": math.log2(perplexity_of_counts(run_counts_K)) * runs_per_second,
        "deduplicated_bit_rate_log2k": math.log2(num_units) * runs_per_second,
    }


def units_in_range(units: ArrayLike, num_units: int) -> NDArray[np.int64]:
    """`units` as an array.

    Raises:
        ValueError: a unit is out of range.
    """
    units_N = np.asarray(units, dtype=np.int64)
    require_in_range(units_N, num_units)
    return units_N


def require_in_range(units_N: NDArray[np.integer], num_units: int) -> None:
    """Check that each unit is one of the codebook.

    Raises:
        ValueError: a unit is out of range.
    """
    if len(units_N) and not 0 <= units_N.min() <= units_N.max() < num_units:
        raise ValueError(
            f"units must lie between 0 and {num_units - 1}, got {units_N.min()} to "
            f"{units_N.max()}: do the tokens come from this codebook?"
        )


def deduplicate(units_N: NDArray[np.int64]) -> NDArray[np.int64]:
    """The unit of each run of equal units, units_R."""
    return units_N[np.flatnonzero(np.diff(units_N, prepend=-1))]


def usage_of_counts(counts_K: ArrayLike) -> float:
    """The share of units that occur at all."""
    return float((_counted(counts_K) > 0).mean())


def entropy_of_counts(counts_K: ArrayLike) -> float:
    """The entropy of the unigram distribution, in nats."""
    counts = _counted(counts_K)
    shares = counts[counts > 0] / counts.sum()
    return abs(float((shares * np.log(shares)).sum()))


def perplexity_of_counts(counts_K: ArrayLike) -> float:
    """The exponential of the entropy: the number of equally frequent units with the same entropy."""
    return float(np.exp(entropy_of_counts(counts_K)))


def _counted(counts_K: ArrayLike) -> NDArray[np.float64]:
    counts = np.asarray(counts_K, dtype=np.float64)
    if counts.sum() == 0:
        raise ValueError("no frames were counted: the tokens are empty")
    return counts
