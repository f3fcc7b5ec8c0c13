"""F0 and voicing: signals whose F0 is known, and Praat's own tracker on real speech."""

import json
from pathlib import Path

import numpy as np
import parselmouth
import pytest
import soundfile

from pipeline.audio import pitch
from pipeline.audio.pitch import fundamental_hz

RATE = 16000
HOP = RATE // 100
REAL_SPEECH = Path(__file__).parents[4] / "shared/data"


def tone(hz, seconds=0.5, amplitude=0.3, rate=RATE):
    return amplitude * np.sin(2 * np.pi * hz * np.arange(round(seconds * rate)) / rate)


def voice(hz, seconds=0.5, rate=RATE):
    """Eight harmonics, falling."""
    return sum(tone(hz * k, seconds, 0.3 / k, rate) for k in range(1, 9))


def noise(seconds=0.5, amplitude=0.1):
    return amplitude * np.random.default_rng(0).standard_normal(round(seconds * RATE))


def cents(f0_T, hz):
    return np.abs(1200 * np.log2(f0_T / hz))


@pytest.mark.parametrize("rate", [8000, 16000, 22050])
@pytest.mark.parametrize("hz", [65.0, 100.0, 123.4, 220.0, 311.1, 480.0])
def test_a_steady_voice_within_three_cents(hz, rate):
    f0_T = fundamental_hz(voice(hz, rate=rate), rate, rate // 100)
    assert len(f0_T) == 50
    assert (f0_T > 0).all()
    assert cents(f0_T, hz).max() < 3


def test_a_pure_tone():
    assert fundamental_hz(tone(200), RATE, HOP) == pytest.approx(200, abs=0.2)


def test_a_missing_fundamental_is_found():
    assert fundamental_hz(voice(150) - tone(150), RATE, HOP) == pytest.approx(150, abs=0.5)


@pytest.mark.parametrize("samples", [noise(), np.zeros(8000), tone(200, amplitude=9e-4)])
def test_noise_and_silence_are_unvoiced(samples):
    assert fundamental_hz(samples, RATE, HOP).tolist() == [0.0] * 50


def test_a_gliding_voice_is_followed_frame_by_frame():
    hz_S = np.linspace(100, 200, RATE)
    phase_S = 2 * np.pi * np.cumsum(hz_S) / RATE
    samples = sum(0.3 / k * np.sin(k * phase_S) for k in range(1, 9))
    f0_T = fundamental_hz(samples, RATE, HOP)
    centres_T = hz_S[HOP // 2 :: HOP]
    assert cents(f0_T[3:-3], centres_T[3:-3]).max() < 10


def test_voicing_starts_and_ends_with_the_voice():
    samples = np.concatenate([noise(0.3, 1e-3), voice(200, 0.3), noise(0.3, 1e-3)])
    voiced_T = fundamental_hz(samples, RATE, HOP) > 0
    assert np.flatnonzero(voiced_T)[[0, -1]] == pytest.approx([30, 59], abs=2)
    assert voiced_T[32:58].all()


@pytest.mark.parametrize("gain", [0.01, 0.1, 3.0])
def test_the_level_changes_nothing(gain):
    samples = np.concatenate([voice(120), noise(), voice(240)])
    expected = fundamental_hz(samples, RATE, HOP)
    assert fundamental_hz(gain * samples, RATE, HOP) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("num_samples", [0, 1, HOP - 1, HOP, 100, 801])
def test_short_signals_have_as_many_frames_as_hops(num_samples):
    assert len(fundamental_hz(np.ones(num_samples), RATE, HOP)) == num_samples // HOP


def test_pieces_of_a_long_signal_make_no_difference(monkeypatch):
    samples = np.concatenate([voice(120), noise(), voice(240)])
    whole = fundamental_hz(samples, RATE, HOP)
    monkeypatch.setattr(pitch, "_FRAMES_AT_ONCE", 7)
    assert fundamental_hz(samples, RATE, HOP).tolist() == whole.tolist()


def both_tracks(samples_S, rate, hop):
    """F0 of the same frames by us and by Praat, which centres its own in the recording."""
    track = parselmouth.Sound(samples_S, rate).to_pitch_ac(
        hop / rate, pitch.LOWEST_HZ, pitch_ceiling=pitch.HIGHEST_HZ
    )
    expected_T = track.selected_array["frequency"]
    f0_T = fundamental_hz(samples_S[round(track.xs()[0] * rate - hop / 2) :], rate, hop)
    return f0_T[: len(expected_T)], expected_T


@pytest.mark.parametrize("corpus", ["spoken_digits", "an4", "ljspeech_excerpt"])
def test_real_speech_as_praat_has_it(corpus):
    folder = REAL_SPEECH / corpus
    if not folder.exists():
        pytest.skip("no real speech here")
    rows = [json.loads(line) for line in (folder / "manifest.jsonl").read_text().splitlines()]
    tracks = []
    for row in rows[:: len(rows) // 5][:5]:
        samples_S, rate = soundfile.read(folder / row["audio"])
        tracks.append(both_tracks(samples_S, rate, rate // 100))
    f0_T, expected_T = (np.concatenate(parts) for parts in zip(*tracks, strict=True))
    both_T = (f0_T > 0) & (expected_T > 0)
    assert 0.3 < both_T.mean() < 0.8
    assert ((f0_T > 0) != (expected_T > 0)).mean() < 0.015
    assert cents(f0_T[both_T], expected_T[both_T]).max() < 240
