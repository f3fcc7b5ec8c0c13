import math

import numpy as np
import pytest
from reference.f0 import f0_comparison
from reference.mel_cepstrum import distortion_db

from pipeline.metrics.resynthesis import compare_f0, compare_tracks, mel_cepstral_distortion_db

RATE = 16000


def tone(hz, seconds=0.5, amplitude=0.3):
    return amplitude * np.sin(2 * np.pi * hz * np.arange(round(seconds * RATE)) / RATE)


def pulses(hz, seconds=0.5):
    """Eight harmonics, falling: as rich as a voice."""
    return sum(tone(hz * k, seconds, 0.3 / k) for k in range(1, 9))


def noise(seconds=0.2, seed=0, amplitude=0.1):
    return amplitude * np.random.default_rng(seed).standard_normal(round(seconds * RATE))


def test_distortion_matches_the_oracle():
    first, second = noise(seed=0), noise(seed=1) + tone(440, 0.2)
    expected = distortion_db(first, second, RATE)
    assert expected > 1
    assert mel_cepstral_distortion_db(first, second, RATE) == pytest.approx(expected, abs=1e-4)


def test_equal_signals_have_no_distortion():
    assert mel_cepstral_distortion_db(noise(), noise(), RATE) == 0


def test_loudness_is_no_distortion():
    assert mel_cepstral_distortion_db(noise(), 0.5 * noise(), RATE) == pytest.approx(0, abs=1e-6)


def test_a_ripple_of_the_log_spectrum_gives_its_root_mean_square_in_db(monkeypatch):
    from pipeline.metrics import resynthesis

    bands_J = np.arange(resynthesis.NUM_MELS)
    ripple_J = 6 * np.cos(math.pi * 3 * (bands_J + 0.5) / resynthesis.NUM_MELS)
    cepstra_T14 = resynthesis.mel_cepstra(noise(), RATE)
    cosines = np.cos(math.pi * np.outer(np.arange(14), bands_J + 0.5) / resynthesis.NUM_MELS)
    change_14 = ripple_J * math.log(10) / 20 @ cosines.T * 2 / resynthesis.NUM_MELS
    change_14[0] /= 2
    rippled = iter([cepstra_T14, cepstra_T14 + change_14])
    monkeypatch.setattr(resynthesis, "mel_cepstra", lambda *_: next(rippled))
    distortion = mel_cepstral_distortion_db(noise(), noise(), RATE)
    assert distortion == pytest.approx(6 / math.sqrt(2), abs=1e-6)


def test_speech_that_is_slower_is_not_distorted_for_that():
    """Two steady sounds, held for longer in one signal: only frames across the change differ."""
    quick = np.concatenate([pulses(100, 0.3), pulses(200, 0.3)])
    slow = np.concatenate([pulses(100, 0.6), pulses(200, 0.4)])
    assert mel_cepstral_distortion_db(quick, slow, RATE) < 0.1
    assert mel_cepstral_distortion_db(quick, pulses(100, 0.6), RATE) > 1


def test_a_signal_shorter_than_a_window_has_a_distortion():
    assert mel_cepstral_distortion_db(noise(0.02), noise(0.02, seed=1), RATE) > 0


def test_a_semitone_is_a_hundred_cents():
    comparison = compare_f0(pulses(200), pulses(200 * 2 ** (1 / 12)), RATE)
    assert comparison.rmse_cents == pytest.approx(100, abs=2)
    assert comparison.voicing_error == 0


def test_the_voicing_error_is_a_share_of_all_frames():
    half = np.concatenate([pulses(200), np.zeros(8000)])
    comparison = compare_f0(pulses(200, 1.0), half, RATE)
    assert comparison.rmse_cents == pytest.approx(0, abs=2)
    assert comparison.voicing_error == pytest.approx(0.5, abs=0.04)


def test_without_common_voicing_there_is_no_error():
    comparison = compare_f0(pulses(200), np.zeros(8000), RATE)
    assert math.isnan(comparison.rmse_cents)
    assert math.isnan(comparison.correlation)


def test_tracks_are_compared_as_the_oracle_does():
    random = np.random.default_rng(0)
    first = np.exp(random.normal(5, 0.2, 60)) * (random.random(60) > 0.3)
    other = np.exp(random.normal(5, 0.2, 70)) * (random.random(70) > 0.3)
    found = compare_tracks(first, other)
    expected = f0_comparison(first.tolist(), other.tolist())
    assert (found.correlation, found.rmse_cents, found.voicing_error) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("first", "other", "correlation"),
    [
        ([100.0 + i for i in range(10)], [200.0 + 2 * i for i in range(10)], 1.0),
        ([100.0 + i for i in range(10)], [1 / (100.0 + i) for i in range(10)], -1.0),
        ([100.0 + i for i in range(9)], [100.0 + i for i in range(9)], math.nan),
        ([100.0] * 20, [100.0 + i for i in range(20)], math.nan),
    ],
)
def test_a_correlation_needs_ten_frames_in_which_f0_moves(first, other, correlation):
    found = compare_tracks(np.array(first), np.array(other))
    assert found.correlation == pytest.approx(correlation, nan_ok=True)


def test_another_tracker_may_be_used():
    found = compare_f0(noise(), noise(), RATE, lambda samples, _rate, hop: samples[::hop] * 0 + 100)
    assert (found.rmse_cents, found.voicing_error) == (0, 0)
