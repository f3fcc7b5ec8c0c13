"""What a signal is said to be, beside signals that are made to be it."""

import numpy as np
import pytest
import soundfile

from pipeline.audio import signal
from pipeline.audio.decode import AudioError, decode, read_audio
from pipeline.audio.doubts import DOUBTS, examine
from pipeline.audio.signal import Signal, extremes, fault, mix
from pipeline.audio.unusable import UnusableError

RATE = 16000
STEP = 2**-15


def speech(seconds=1.0, peak=0.5, seed=0):
    """Low noise with the envelope of syllables, (num_samples,)."""
    times = np.arange(round(seconds * RATE)) / RATE
    noise = np.random.default_rng(seed).normal(size=len(times))
    envelope = 0.05 + np.sin(2 * np.pi * 2 * times) ** 2
    samples = np.convolve(noise, np.ones(8), "same") * envelope
    return (peak * samples / np.abs(samples).max()).astype(np.float32)


def stacked(*channels):
    return np.stack(channels, axis=1).astype(np.float32)


def kinds(samples):
    samples = samples if samples.ndim == 2 else samples[:, None]
    found = [warning.partition(":")[0] for warning in examine(Signal.of(samples, RATE))]
    assert set(found) <= set(DOUBTS)
    return found


def dither(steps):
    return np.random.default_rng(0).integers(-steps, steps + 1, RATE) * STEP


def clicked(seconds=1.0):
    samples = np.zeros(round(seconds * RATE))
    samples[5000] = 0.9
    return samples


SILENT = {
    "zeros": (np.zeros(RATE), "silence: every sample is 0"),
    "an offset": (np.full(RATE, 0.25), "silence: every sample is 0.25"),
    "an offset at full scale": (np.full(RATE, -1.0), "silence: every sample is -1"),
    "dither of one step": (dither(1), "silence: nothing is louder than 6.1e-05 of full scale"),
    "dither of seven steps": (dither(7), "silence: nothing is louder than 0.00043"),
    "dither of one step of 8 bits": (dither(1) * 256, "silence: samples have no more values"),
    "dither around an offset": (dither(1) + 0.1, "silence: nothing is louder than 6.1e-05"),
    "an offset that drifts": (
        np.linspace(0, 0.005, RATE),
        "silence: nothing is louder than 0.0002",
    ),
    "speech that is far too quiet": (speech(peak=1e-4), "silence: nothing is louder than 0.000"),
    "a click": (clicked(), "silence: about 0.05 s of 1 s can be heard"),
    "half a block": (np.zeros(400), "silence: every sample is 0"),
    "one sample": (np.zeros(1), "silence: every sample is 0"),
}


@pytest.mark.parametrize("channels", [1, 2, 5])
@pytest.mark.parametrize("case", SILENT)
def test_silence_is_unusable(case, channels):
    samples, reason = SILENT[case]
    with pytest.raises(UnusableError) as caught:
        kinds(stacked(*[samples] * channels))
    assert str(caught.value).startswith(reason)


@pytest.mark.parametrize("peak", [0.001, 0.01, 0.5, 0.999, 1.2])
def test_speech_is_heard_at_any_usual_level(peak):
    assert kinds(speech(peak=peak)) == []
    assert kinds(speech(peak=peak) + np.float32(0.2)) == []


@pytest.mark.parametrize("num_samples", [801, 1600, 2400, 16001])
def test_short_speech_is_heard(num_samples):
    assert kinds(np.random.default_rng(0).normal(0, 0.1, num_samples)) == []


def test_recordings_that_are_silent_for_the_most_part_are_named():
    samples = np.zeros(10 * RATE)
    samples[8 * RATE :] = speech(2.0)
    assert kinds(samples) == []
    samples[: int(8.1 * RATE)] = 0
    assert examine(Signal.of(samples[:, None], RATE)) == [
        "mostly silent: about 1.9 s of 10 s can be heard; cut it to the speech"
    ]


@pytest.mark.parametrize("value", [0.0, 0.3])
def test_a_copy_that_was_filled_up_is_named(value):
    samples = speech(4.0)
    samples[3 * RATE + 1600 :] = value
    assert kinds(samples) == []
    samples[3 * RATE :] = value
    assert examine(Signal.of(samples[:, None], RATE)) == [
        "silent end: the last 1 s of 4 s have one value: is it a copy that was cut off?"
    ]
    assert kinds(np.concatenate([speech(8.0), np.zeros(2 * RATE)])) == []


@pytest.mark.parametrize("gain", [3.0, 10.0])
@pytest.mark.parametrize("level", [1.0, 0.5, 0.2])
def test_clipping_is_counted_at_any_level(gain, level):
    loud = np.clip(gain * speech(4.0, peak=1.0), -1, 1 - STEP) * level
    cut = np.abs(loud) >= 0.999 * level
    inner = cut[1:-1] & cut[:-2] & cut[2:]
    in_runs = inner.sum() + (inner & ~np.r_[False, inner[:-1]]).sum() * 2
    (warning,) = examine(Signal.of(loud.astype(np.float32)[:, None], RATE))
    assert warning.startswith("clipped: ")
    share = float(warning.split()[1].rstrip("%")) / 100
    assert share == pytest.approx(in_runs / len(loud), abs=0.0006)


def test_clipping_is_found_in_one_of_two_channels():
    clean, loud = speech(seed=1), np.clip(20 * speech(), -1, 1)
    assert kinds(stacked(clean, loud)) == ["clipped"]


def test_what_only_looks_clipped_is_not():
    times = np.arange(2 * RATE) / RATE
    assert kinds(np.sin(2 * np.pi * 440 * times)) == []
    assert kinds(speech(peak=1.0)) == []
    quantized = np.round(speech(peak=0.1) * 128) / 128
    assert kinds(quantized) == []


def test_a_square_wave_is_clipped_beyond_use():
    with pytest.raises(UnusableError, match=r"^clipped beyond use: [5-9]\d\.\d% of the samples"):
        kinds(np.clip(100 * speech().astype(np.float64), -1, 1))


def test_channels_are_averaged():
    left, right = speech(seed=1), speech(seed=2)
    samples = stacked(left, right)
    np.testing.assert_array_equal(mix(samples, RATE), (left + right) / 2)
    assert kinds(samples) == []
    mono = left[:, None]
    assert mix(mono, RATE) is not None
    np.testing.assert_array_equal(mix(mono, RATE), left)


CANCELLED = {
    "opposite": lambda left, _: stacked(left, -left),
    "the second is louder": lambda left, _: stacked(0.9 * left, -left),
    "with noise of their own": lambda left, noise: stacked(left + noise, noise[::-1] - left),
    "around one offset": lambda left, _: stacked(left + 0.3, 0.3 - left),
    "in two pairs": lambda left, _: stacked(left, -left, left, -left),
    "beside a silent one": lambda left, _: stacked(0 * left, left, -left),
}


@pytest.mark.parametrize("case", CANCELLED)
def test_channels_that_cancel_leave_the_loudest(case):
    samples = CANCELLED[case](speech(), 0.01 * speech(seed=1))
    loudest = np.argmax(samples.std(axis=0))
    assert kinds(samples)[0] == "cancelled mix"
    read = mix(samples, RATE)
    assert read.flags.c_contiguous
    assert any(np.array_equal(read, samples[:, index]) for index in range(samples.shape[1]))
    assert read.std() == pytest.approx(samples[:, loudest].std(), rel=1e-3)


def test_the_channel_taken_is_named():
    (warning,) = examine(Signal.of(stacked(0.5 * speech(), -0.52 * speech()), RATE))
    assert warning == (
        "cancelled mix: the channels cancel each other; the loudest, channel 2 of 2, is used alone"
    )


def test_channels_that_cancel_for_a_part_leave_the_loudest():
    left = speech(4.0)
    right = left.copy()
    right[RATE:] *= -0.9
    assert kinds(stacked(left, right)) == ["cancelled mix"]
    np.testing.assert_array_equal(mix(stacked(left, right), RATE), left)


@pytest.mark.parametrize("delay", [1, 5, 20, 100])
def test_channels_that_hear_the_same_with_a_delay_are_averaged(delay):
    source = speech(2.0)
    samples = stacked(source[delay:], source[:-delay])
    assert kinds(samples) == []


NOT_CANCELLED = {
    "equal": lambda left, _: stacked(left, left),
    "independent": stacked,
    "with crosstalk of opposite sign": lambda left, right: stacked(
        left - 0.2 * right, right - 0.2 * left
    ),
    "one much quieter": lambda left, right: stacked(left, 0.01 * right),
    "three, one of them turned": lambda left, _: stacked(left, left, -left),
}


@pytest.mark.parametrize("case", NOT_CANCELLED)
def test_other_channels_are_averaged(case):
    samples = NOT_CANCELLED[case](speech(seed=1), speech(seed=2))
    assert kinds(samples) == []
    np.testing.assert_allclose(mix(samples, RATE), samples.mean(axis=1), atol=1e-7)


@pytest.mark.parametrize("silence", [np.zeros(RATE), np.full(RATE, 0.4), dither(1)])
@pytest.mark.parametrize("num_silent", [1, 39])
def test_silent_channels_do_not_halve_the_others(silence, num_silent):
    samples = stacked(*[silence] * num_silent, speech())
    np.testing.assert_array_equal(mix(samples, RATE), speech())
    assert kinds(samples) == ["silent channel"]


def test_silent_channels_are_named():
    (warning,) = examine(Signal.of(stacked(speech(), 0 * speech(), speech(seed=1)), RATE))
    assert warning == "silent channel: [2] of 3; the others are used"


SCALES = {
    "16-bit integers": (32768 * speech(), "if they are 16-bit integers, divide them by 32768"),
    "24-bit integers": (2.0**23 * speech(), "if they are 24-bit integers, divide them by 8388608"),
    "32-bit integers": (
        2.0**31 * speech(),
        "if they are 32-bit integers, divide them by 2147483648",
    ),
    "1e20": (1e20 * speech(), "samples reach 5e+19, where full scale is 1; make them again"),
    "1e-20": (1e-20 * speech(), "samples reach only 5e-21, where full scale is 1; if they hold"),
    "1e-20 of float64": (1e-20 * speech().astype(np.float64), "samples reach only 5e-21"),
}


@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("case", SCALES)
def test_float_files_at_an_absurd_scale_are_refused_by_every_reader(tmp_path, case, channels):
    samples, reason = SCALES[case]
    subtype = "DOUBLE" if samples.dtype == np.float64 else "FLOAT"
    path = tmp_path / "a.wav"
    soundfile.write(path, np.stack([samples] * channels, axis=1), RATE, subtype=subtype)
    for read in (decode, lambda uri: read_audio(uri, 8000)):
        with pytest.raises(AudioError, match=r"^(out of scale|scale is too small): ") as caught:
            read(str(path))
        assert reason in str(caught.value)


def test_float_samples_above_full_scale_are_kept_and_named():
    assert fault(*extremes(3 * speech())) is None
    assert kinds(5 * speech(peak=1.0)) == ["over full scale"]


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_one_sample_that_is_no_number_is_found(value):
    samples = stacked(speech(), speech())
    samples[77, 1] = value
    assert fault(*extremes(samples)) == "audio holds NaN or infinite samples"
    for read in (kinds, lambda samples: mix(samples, RATE), lambda samples: kinds(samples[:, 1])):
        with pytest.raises(UnusableError, match="audio holds NaN or infinite samples"):
            read(samples)


@pytest.mark.parametrize("channels", [1, 2])
def test_long_recordings_are_looked_at_in_pieces(monkeypatch, channels):
    whole = Signal.of(stacked(*[speech(3.03)] * channels), RATE)
    monkeypatch.setattr(signal, "_BLOCKS_AT_ONCE", 7)
    parts = Signal.of(stacked(*[speech(3.03)] * channels), RATE)
    assert len(parts.mono.lows) == 61
    np.testing.assert_allclose(parts.mono.lows, whole.mono.lows, atol=1e-7)
    np.testing.assert_allclose(parts.mono.highs, whole.mono.highs, atol=1e-7)


def test_a_cancelled_file_is_read_as_one_channel(tmp_path):
    soundfile.write(tmp_path / "a.wav", stacked(speech(), -speech()), RATE, subtype="FLOAT")
    np.testing.assert_array_equal(read_audio(str(tmp_path / "a.wav"), RATE), speech())
