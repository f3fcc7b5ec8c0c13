import numpy as np
import pytest
import torch

from pipeline.audio.frame_grid import FrameGrid
from pipeline.features.mfcc import DELTA_WEIGHT, Mfcc

GRID = FrameGrid(400, 320, 16000)


def noise(num_samples, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return 0.1 * torch.randn(num_samples, generator=generator)


@pytest.mark.parametrize("num_samples", [400, 719, 720, 16000])
def test_one_row_a_frame_of_the_grid(num_samples):
    assert Mfcc(GRID)(noise(num_samples)).shape == (GRID.num_frames(num_samples), 39)


def test_coefficients_are_normalised_and_differences_weigh_less():
    frames_TC = Mfcc(GRID)(noise(32000))
    np.testing.assert_allclose(frames_TC.mean(0), 0, atol=1e-4)
    spread_C = frames_TC.square().mean(0).sqrt()
    np.testing.assert_allclose(spread_C[:13], 1, atol=1e-3)
    np.testing.assert_allclose(spread_C[13:], DELTA_WEIGHT, atol=1e-3)


def test_loudness_does_not_matter():
    waveform = noise(16000)
    torch.testing.assert_close(Mfcc(GRID)(waveform), Mfcc(GRID)(3 * waveform), atol=1e-2, rtol=0)


def test_a_frame_hears_its_own_samples():
    # A click in the middle of frame 20 must be loudest there: frame i starts at sample 320 i.
    waveform = 1e-4 * noise(16000)
    waveform[320 * 20 + 200] = 1.0
    energy_T = Mfcc(GRID)(waveform)[:, 0]
    assert int(energy_T.argmax()) == 20
