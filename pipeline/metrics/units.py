"""How a corpus uses its units: how many of them, how evenly, and at what bit rate."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray


@dataclass(frozen=True)
class UnitStatistics:
    """Scores of a token corpus.

    Attributes:
        usage_share: units that occur, as a share of the codebook.
        perplexity: exp of the entropy of the unigram distribution; num_units if all are equally frequent.
        bits_per_second: entropy of the units in bits x frames per second.
        deduplicated_units_per_second: the rate when each run of one unit counts once.
        deduplicated_bits_per_second: the entropy of those in bits x their rate, without durations.
    """

    usage_share: float
    perplexity: float
    bits_per_second: float
    deduplicated_units_per_second: float
    deduplicated_bits_per_second: float

    def scores(self) -> dict[str, float]:
        return {
            "codebook_usage": self.usage_share,
            "codebook_perplexity": self.perplexity,
            "bit_rate": self.bits_per_second,
            "deduplicated_bit_rate": self.deduplicated_bits_per_second,
        }


def unit_statistics(
    utterances: Iterable[ArrayLike], num_units: int, frames_per_second: float
) -> UnitStatistics:
    """Statistics over the units of each frame, utterance by utterance.

    Raises:
        ValueError: there is no frame, a unit is out of range, or the frame rate is not positive.
    """
    if not frames_per_second > 0:
        raise ValueError(f"frames_per_second must be positive, got {frames_per_second}")
    counts_K = np.zeros(num_units, dtype=np.int64)
    run_counts_K = np.zeros(num_units, dtype=np.int64)
    for utterance in utterances:
        units_N = np.asarray(utterance, dtype=np.int64)
        if len(units_N) and not 0 <= units_N.min() <= units_N.max() < num_units:
            raise ValueError(
                f"units must lie between 0 and {num_units - 1}, got {units_N.min()} to "
                f"{units_N.max()}: do the tokens come from this codebook?"
            )
        counts_K += np.bincount(units_N, minlength=num_units)
        run_counts_K += np.bincount(deduplicate(units_N)[0], minlength=num_units)
    bits = entropy_of_counts(counts_K) / np.log(2)
    run_bits = entropy_of_counts(run_counts_K) / np.log(2)
    runs_per_second = frames_per_second * float(run_counts_K.sum() / counts_K.sum())
    return UnitStatistics(
        usage_share=usage_of_counts(counts_K),
        perplexity=perplexity_of_counts(counts_K),
        bits_per_second=float(bits * frames_per_second),
        deduplicated_units_per_second=runs_per_second,
        deduplicated_bits_per_second=float(run_bits * runs_per_second),
    )


def deduplicate(units_N: ArrayLike) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Each run of equal units as the unit and its length: units_R and num_frames_R."""
    units = np.asarray(units_N, dtype=np.int64)
    starts = np.flatnonzero(np.diff(units, prepend=-1))
    return units[starts], np.diff(starts, append=len(units))


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
