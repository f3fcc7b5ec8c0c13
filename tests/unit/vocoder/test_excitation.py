import math

import numpy as np
import pytest
import torch

from pipeline.audio.pitch import fundamental_hz
from pipeline.vocoder.excitation import Excitation

RATE, HOP = 16000, 320


def excite(f0_BT, inside_BT=None):
    f0_BT = torch.as_tensor(f0_BT, dtype=torch.float32)
    inside_BT = torch.ones_like(f0_BT, dtype=torch.bool) if inside_BT is None else inside_BT
    return Excitation(RATE, HOP)(f0_BT, inside_BT)


def test_pulses_are_all_cosines_of_the_phase_at_power_1():
    [pulses_S], _ = excite(np.full((1, 10), 700.0))
    phases_S = 2 * math.pi * 700 / RATE * np.arange(1, 10 * HOP + 1)
    count = math.floor(RATE / 2 / 700)
    expected_S = math.sqrt(2 / count) * sum(np.cos(k * phases_S) for k in range(1, count + 1))
    assert np.abs(pulses_S.numpy() - expected_S).max() < 1e-2
    assert float(pulses_S.square().mean()) == pytest.approx(1, rel=0.05)


def test_the_tracker_hears_the_f0_and_the_voicing_that_were_asked_for():
    f0_T = np.concatenate([np.full(20, 120.0), np.zeros(20), np.linspace(180, 240, 20)])
    [pulses_S], [noise_S] = excite(f0_T[None])
    heard_T = fundamental_hz((0.3 * pulses_S + 0.01 * noise_S).numpy(), RATE, HOP)
    inner_T = np.r_[2:18, 22:38, 42:58]
    assert ((heard_T > 0) == (f0_T > 0))[inner_T].all()
    voiced_T = inner_T[f0_T[inner_T] > 0]
    assert np.abs(1200 * np.log2(heard_T[voiced_T] / f0_T[voiced_T])).max() < 15


def test_noise_is_white_and_always_the_same():
    [first_S] = excite(np.zeros((1, 100)))[1]
    second_BS = excite(np.zeros((2, 50)))[1]
    assert float(first_S.std()) == pytest.approx(1, rel=0.05)
    assert torch.equal(second_BS[1], first_S[: 50 * HOP])


def test_nothing_excites_outside_a_row_nor_changes_inside():
    f0_BT = np.array([[150.0, 160.0, 170.0, 180.0]])
    inside_BT = torch.tensor([[True, True, False, False]])
    for masked_BS, alone_BS in zip(excite(f0_BT, inside_BT), excite(f0_BT[:, :2]), strict=True):
        assert not masked_BS[:, 2 * HOP :].any()
        assert torch.equal(masked_BS[:, : 2 * HOP], alone_BS)


def test_minutes_keep_their_phase():
    f0_BT = np.full((1, 5000), 125.0)  # 128 samples, so the phase is the same every 128
    [pulses_S], _ = excite(f0_BT)
    assert torch.allclose(pulses_S[:1280], pulses_S[-1280:], atol=0.05)
