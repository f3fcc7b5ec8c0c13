import numpy as np
import pytest
import torch
from reference.mel_cepstrum import triangles

from pipeline.audio.mel import mel_bank, power_spectra


def test_a_full_scale_sine_has_a_power_of_one_in_its_bin():
    times = np.arange(1000) / 8000
    power_TF = power_spectra(np.sin(2 * np.pi * 1000 * times), window=400, hop=100)
    assert power_TF.shape == (7, 201)
    assert power_TF.dtype == torch.float64
    assert power_TF.argmax(dim=1).tolist() == [50] * 7
    assert power_TF[:, 50].tolist() == pytest.approx([1.0] * 7, rel=1e-3)


def test_less_than_a_window_is_padded():
    assert power_spectra(np.zeros(5, np.float32), window=64, hop=16).shape == (1, 33)


@pytest.mark.parametrize("rate_hz", [8000, 22050])
def test_the_bands_are_triangles_even_in_mel(rate_hz):
    bank_FM = mel_bank(512, rate_hz, 80)
    assert pytest.approx(np.array(triangles(512, rate_hz)), abs=1e-4) == bank_FM.numpy().T


def test_bands_may_end_below_half_the_rate():
    bank_FM = mel_bank(512, 16000, 20, 4000.0)
    assert bank_FM.shape == (257, 20)
    assert bank_FM[128:].abs().max() == 0
    assert bank_FM[120:128].max() > 0
