import numpy as np
import pytest

from pipeline.audio.level import ACTIVE_RMS, at_one_level

RATE = 16000


def speech(amplitude, seconds=1.0):
    return (amplitude * np.sin(np.arange(round(seconds * RATE)) * 0.1)).astype(np.float32)


def rms(samples):
    return float(np.sqrt(np.square(samples, dtype=np.float64).mean()))


@pytest.mark.parametrize("amplitude", [0.005, 0.05, 0.9])
def test_speech_of_any_level_gets_the_same(amplitude):
    assert rms(at_one_level(speech(amplitude), RATE)) == pytest.approx(ACTIVE_RMS, rel=1e-3)
    assert at_one_level(speech(amplitude), RATE).dtype == np.float32


def test_26_db_below_full_scale():
    assert 20 * np.log10(ACTIVE_RMS) == pytest.approx(-26)


def test_pauses_change_nothing():
    quiet = speech(1e-4, 3.0)
    paused = at_one_level(np.concatenate([quiet, speech(0.2), quiet]), RATE)
    assert rms(paused[3 * RATE : 4 * RATE]) == pytest.approx(ACTIVE_RMS, rel=1e-3)


def test_nothing_exceeds_full_scale():
    spiky = speech(0.01)
    spiky[500] = 0.9
    assert np.abs(at_one_level(spiky, RATE)).max() <= 1.0


@pytest.mark.parametrize("samples", [np.zeros(0, np.float32), np.zeros(RATE, np.float32)])
def test_silence_stays(samples):
    assert np.array_equal(at_one_level(samples, RATE), samples)
