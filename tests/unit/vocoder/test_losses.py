import math

import numpy as np
import pytest
import torch

from pipeline.vocoder.discriminators import Judgement
from pipeline.vocoder.losses import (
    GAMES,
    SpectralLoss,
    adversarial_loss,
    discriminator_loss,
    feature_matching_loss,
)


def judgement(scores, maps=()):
    return Judgement(torch.tensor(scores), [torch.tensor(each) for each in maps])


def test_a_perfect_discriminator_has_no_loss():
    real = [judgement([1.0, 1.0])]
    assert float(discriminator_loss(GAMES["least_squares"], real, [judgement([0.0])])) == 0
    assert float(discriminator_loss(GAMES["hinge"], real, [judgement([-1.0, -3.0])])) == 0


REAL = [judgement([0.5, 1.0]), judgement([1.5])]
MADE = [judgement([0.0, 1.0]), judgement([-2.0])]


@pytest.mark.parametrize(
    ("name", "of_judge", "of_vocoder"),
    [
        ("least_squares", (0.125 + 0.5) + (0.25 + 4.0), 0.5 + 9.0),
        ("hinge", (0.25 + 1.5) + (0.0 + 0.0), 0.5 + 3.0),
    ],
)
def test_both_sides_lose_by_the_games_rule_summed_over_members(name, of_judge, of_vocoder):
    assert float(discriminator_loss(GAMES[name], REAL, MADE)) == pytest.approx(of_judge)
    assert float(adversarial_loss(GAMES[name], MADE)) == pytest.approx(of_vocoder)


def test_feature_matching_sums_mean_differences_and_spares_the_recordings():
    real = Judgement(torch.zeros(1), [torch.zeros(2, requires_grad=True), torch.ones(1)])
    made = Judgement(torch.zeros(1), [torch.tensor([1.0, 3.0], requires_grad=True), torch.ones(1)])
    loss = feature_matching_loss([real], [made])
    loss.backward()
    assert loss.item() == 2.0
    assert real.maps[0].grad is None
    assert made.maps[0].grad.tolist() == [0.5, 0.5]


def test_the_spectral_losses_are_zero_for_equal_waveforms():
    waveform_BS = torch.randn(1, 4000)
    assert tuple(map(float, SpectralLoss(16000)(waveform_BS, waveform_BS))) == (0, 0)


def test_the_spectral_losses_of_a_gain_are_known():
    """Half the amplitude: ln 2 in all log magnitudes, and half of the norm."""
    torch.manual_seed(0)
    real_BS = torch.randn(1, 4000)
    mel, stft = SpectralLoss(16000)(real_BS / 2, real_BS)
    assert float(mel) == pytest.approx(math.log(2), rel=1e-4)
    assert float(stft) == pytest.approx(0.5 + math.log(2), rel=1e-4)


def test_the_spectral_losses_are_those_of_their_formulas():
    torch.manual_seed(0)
    made_BS, real_BS = 0.3 * torch.randn(2, 2, 1500)
    window, rate, band = 256, 16000, 4000
    mel, stft = SpectralLoss(rate, band, (window,))(made_BS, real_BS)
    made, real = (
        np.abs([spectra(row, window) for row in each.double().numpy()])
        for each in (made_BS, real_BS)
    )
    bank = mel_bank(window // 2 + 1, rate, band, window // 16)
    expected = np.abs(
        np.log(np.maximum(made @ bank, 1e-5)) - np.log(np.maximum(real @ bank, 1e-5))
    ).mean()
    assert float(mel) == pytest.approx(expected, rel=1e-4)
    below = slice(round(band * window / rate) + 1)
    convergence = np.linalg.norm(real - made) / np.linalg.norm(real)
    logs = np.abs(np.log(real[..., below]) - np.log(made[..., below])).mean()
    assert float(stft) == pytest.approx(convergence + logs, rel=1e-4)


def test_what_lies_above_the_band_counts_in_the_convergence_alone():
    torch.manual_seed(0)
    noise_BS = torch.randn(1, 4000)
    hiss_BS = noise_BS + torch.sin(2 * math.pi * 7000 / 16000 * torch.arange(4000))
    narrow = SpectralLoss(16000, 4000, (2048,))(hiss_BS, noise_BS)
    whole = SpectralLoss(16000, None, (2048,))(hiss_BS, noise_BS)
    assert 10 * float(narrow.mel) < float(whole.mel)
    assert float(narrow.stft) > 0.5


def spectra(waveform_S, window):
    """Windows a quarter apart, the first centred on sample 0, the ends mirrored."""
    padded_S = np.pad(waveform_S, window // 2, mode="reflect")
    taper_W = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(window) / window)
    firsts = range(0, len(padded_S) - window + 1, window // 4)
    return np.array([np.fft.rfft(padded_S[first : first + window] * taper_W) for first in firsts])


def mel_bank(num_bins, rate, band, num_mels):
    """Triangles between points that are equally far apart on the mel scale, 0 Hz to the band."""
    top = 2595 * math.log10(1 + band / 700)
    points = [700 * (10 ** (top * i / (num_mels + 1) / 2595) - 1) for i in range(num_mels + 2)]
    bins = np.arange(num_bins) * rate / 2 / (num_bins - 1)
    columns = [
        np.clip(np.minimum((bins - low) / (mid - low), (high - bins) / (high - mid)), 0, None)
        for low, mid, high in zip(points, points[1:], points[2:], strict=False)
    ]
    return np.array(columns).T
