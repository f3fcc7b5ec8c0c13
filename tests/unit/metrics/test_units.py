import math
import random

import numpy as np
import pytest
from reference import purity as reference

from pipeline.metrics.units import (
    deduplicate,
    perplexity_of_counts,
    unit_statistics,
    usage_of_counts,
)


def test_a_case_by_hand():
    """Units 0 0 1 1 | 1 1 0 0 at 50 frames/s: 1 bit a frame; 4 runs in 0.16 s, 1 bit a run.

    Numbers of four units take 2 bits each.
    """
    found = unit_statistics([[0, 0, 1, 1], [1, 1, 0, 0]], num_units=4, frames_per_second=50)
    assert found["codebook_usage"] == 0.5
    assert found["codebook_perplexity"] == pytest.approx(2)
    assert found["bit_rate"] == pytest.approx(50)
    assert found["deduplicated_bit_rate"] == pytest.approx(25)
    assert found["bit_rate_log2k"] == pytest.approx(100)
    assert found["deduplicated_bit_rate_log2k"] == pytest.approx(50)


@pytest.mark.parametrize("seed", range(3))
def test_the_statistics_are_those_of_loops(seed):
    chance = random.Random(seed)  # noqa: S311
    utterances = [
        [chance.choice((0, 0, 0, 1, 2, 5)) for _ in range(chance.randrange(60))] for _ in range(8)
    ]
    found = unit_statistics([np.array(u, dtype=np.uint16) for u in utterances], 7, 50.0)
    units = [unit for utterance in utterances for unit in utterance]
    runs = [unit for utterance in utterances for unit, _ in reference.runs(utterance)]
    bits = reference.entropy(units) / math.log(2)
    rate = 50 * len(runs) / len(units)
    assert found["codebook_usage"] == pytest.approx(4 / 7)
    assert found["codebook_perplexity"] == pytest.approx(2**bits)
    assert found["bit_rate"] == pytest.approx(50 * bits)
    run_bits = reference.entropy(runs) / math.log(2)
    assert found["deduplicated_bit_rate"] == pytest.approx(rate * run_bits)
    assert found["bit_rate_log2k"] == pytest.approx(50 * math.log2(7))
    assert found["deduplicated_bit_rate_log2k"] == pytest.approx(rate * math.log2(7))


@pytest.mark.parametrize("units", [[], [0], [3, 3, 3], [1, 1, 0, 2, 2, 2, 1]])
def test_deduplication_keeps_the_unit_of_each_run(units):
    kept = deduplicate(np.array(units, dtype=np.int64))
    assert kept.tolist() == [unit for unit, _ in reference.runs(units)]


def test_one_unit_alone_carries_no_bits():
    found = unit_statistics([[1, 1, 1]], num_units=2, frames_per_second=50)
    assert found["bit_rate"] == 0
    assert found["codebook_perplexity"] == 1


def test_counts():
    assert usage_of_counts([4, 0, 0, 1]) == 0.5
    assert perplexity_of_counts([5, 5, 5, 0]) == pytest.approx(3)


def test_what_has_no_statistics_is_rejected():
    with pytest.raises(ValueError, match="no frames were counted"):
        unit_statistics([[], []], 4, 50)
    with pytest.raises(ValueError, match="no frames were counted"):
        usage_of_counts([0, 0])
    with pytest.raises(ValueError, match="between 0 and 3, got 0 to 4"):
        unit_statistics([[0, 4]], 4, 50)
    with pytest.raises(ValueError, match="frames_per_second"):
        unit_statistics([[0]], 4, 0)
