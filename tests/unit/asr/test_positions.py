import math

import pytest
import torch

from pipeline.asr.positions import sinusoids

CPU = torch.device("cpu")


@pytest.mark.parametrize("dim", [6, 7])
def test_positions_by_formula(dim):
    positions = sinusoids(5, dim, CPU)
    for time in range(5):
        for column in range(dim):
            angle = time / 10000 ** (2 * (column // 2) / dim)
            wanted = math.cos(angle) if column % 2 else math.sin(angle)
            assert positions[time, column].item() == pytest.approx(wanted, abs=1e-6)


def test_later_positions_continue_the_earlier_ones():
    assert torch.equal(sinusoids(3, 8, CPU, first=4), sinusoids(7, 8, CPU)[4:])


def test_negative_positions_mirror_the_others():
    positions = sinusoids(7, 8, CPU, first=-3)
    torch.testing.assert_close(positions[:3].flip(0)[:, 0::2], -positions[4:, 0::2])
    torch.testing.assert_close(positions[:3].flip(0)[:, 1::2], positions[4:, 1::2])
