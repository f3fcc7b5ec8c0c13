"""The same speech in whatever array it comes: the same units, or one error that says what to do."""

import array

import numpy as np
import pytest
import torch
from support import save_tiny_tokenizer

from pipeline.audio.frame_grid import SSL_GRID
from pipeline.tokenizer.unit_tokenizer import UnitTokenizer
from pipeline.tokenizer.waveform_argument import as_waveforms

RATE = 16000


def speech():
    """Whole steps of 8 bits, so that every type holds it exactly."""
    times = np.arange(RATE) / RATE
    tones = 0.4 * np.sin(2 * np.pi * 300 * times) + 0.3 * np.sin(2 * np.pi * 1000 * times**2)
    return (np.round(128 * tones) / 128).astype(np.float32)


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    folder = save_tiny_tokenizer(tmp_path_factory.mktemp("model"))
    return UnitTokenizer.from_pretrained(folder / "tokenizer")


@pytest.fixture(scope="module")
def units(tokenizer):
    (units,) = tokenizer.encode([speech()])
    assert len(set(units.tolist())) > 1
    return units


def read_only(samples):
    samples.flags.writeable = False
    return samples


ACCEPTED = {
    "float16": lambda wave: wave.astype(np.float16),
    "float64": lambda wave: wave.astype(np.float64),
    "big-endian floats": lambda wave: wave.astype(">f4"),
    "int8": lambda wave: (wave * 2**7).astype(np.int8),
    "uint8": lambda wave: (wave * 2**7 + 2**7).astype(np.uint8),
    "int16": lambda wave: (wave * 2**15).astype(np.int16),
    "big-endian int16": lambda wave: (wave * 2**15).astype(">i2"),
    "int32": lambda wave: (wave.astype(np.float64) * 2**31).astype(np.int32),
    "array.array": lambda wave: array.array("h", (wave * 2**15).astype(int).tolist()),
    "a list of floats": lambda wave: wave.tolist(),
    "one channel first": lambda wave: wave[None],
    "one channel last": lambda wave: wave[:, None],
    "backwards twice": lambda wave: wave[::-1].copy()[::-1],
    "every other sample": lambda wave: np.repeat(wave, 2)[::2],
    "one of two channels": lambda wave: np.stack([wave, 0 * wave], axis=1)[:, 0],
    "read-only": lambda wave: read_only(wave.copy()),
    "a tensor": torch.from_numpy,
    "a tensor of torchaudio": lambda wave: torch.from_numpy(wave)[None],
    "a tensor with a gradient": lambda wave: torch.from_numpy(wave).requires_grad_(),
    "an int16 tensor": lambda wave: torch.from_numpy((wave * 2**15).astype(np.int16)),
    "a float64 tensor": lambda wave: torch.from_numpy(wave).double(),
    "a bfloat16 tensor": lambda wave: torch.from_numpy(wave).bfloat16(),
}


@pytest.mark.parametrize("case", ACCEPTED)
@pytest.mark.filterwarnings("error")
def test_every_usual_type_gives_the_same_units(tokenizer, units, case):
    (found,) = tokenizer.encode([ACCEPTED[case](speech())])
    np.testing.assert_array_equal(found, units)
    assert found.dtype == np.uint16


def test_the_list_may_be_any_iterable(tokenizer, units):
    for waveforms in ((speech(), speech()), iter([speech(), speech()])):
        for found in tokenizer.encode(waveforms):
            np.testing.assert_array_equal(found, units)
    assert tokenizer.encode([]) == []


def test_silence_has_units(tokenizer):
    for silence in (np.zeros(RATE), np.zeros(RATE, np.int32), np.full(RATE, 128, np.uint8)):
        found, expected = tokenizer.encode([silence, np.zeros(RATE, np.float32)])
        np.testing.assert_array_equal(found, expected)
        assert len(found) == SSL_GRID.num_frames(RATE)


def with_value(value):
    waveform = speech()
    waveform[123] = value
    return waveform


REFUSED = {
    "a bare waveform": (speech(), r"waveforms is one array of shape \(16000,\): give a list"),
    "a bare tensor": (torch.from_numpy(speech()), r"waveforms is one array of shape \(16000,\)"),
    "a batch": (np.stack([speech()] * 2), r"waveforms is one array of shape \(2, 16000\)"),
    "a bare list of numbers": (
        speech().tolist(),
        r"waveforms\[0\] is of type float64, not an array",
    ),
    "a path": ("a.wav", r"waveforms is of type str: .*read_audio reads them from files"),
    "a list of paths": (["a.wav"], r"waveforms\[0\] is of type <U5, not an array"),
    "bytes": (b"RIFF", "waveforms is of type bytes"),
    "a dictionary": ({"array": speech()}, "waveforms is of type dict"),
    "nothing": (None, "waveforms is of type NoneType"),
    "a number": (7, "waveforms is of type int"),
    "a list of nothing": ([None], r"waveforms\[0\] is of type object"),
    "two channels first": ([np.stack([speech()] * 2)], r"\(2, 16000\): .* waveform.mean\(0\)"),
    "two channels last": (
        [np.stack([speech()] * 2, axis=1)],
        r"\(16000, 2\): .* waveform.mean\(1\)",
    ),
    "a stereo tensor": ([torch.zeros(2, RATE)], r"waveforms\[0\] has the shape \(2, 16000\)"),
    "three axes": ([np.zeros((1, 2, RATE))], r"waveforms\[0\] has the shape \(1, 2, 16000\)"),
    "lists of different lengths": ([[[0.1], [0.1, 0.2]]], r"waveforms\[0\] is no array of numbers"),
    "what soundfile reads": (
        [(speech(), RATE)],
        r"waveforms\[0\] is no array .*without their rate",
    ),
    "what torchaudio reads": (
        [(torch.zeros(1, RATE), RATE)],
        r"waveforms\[0\] is no array of numbers",
    ),
    "what datasets hold": ([{"array": speech()}], r"waveforms\[0\] is of type object"),
    "a sparse tensor": ([torch.zeros(RATE).to_sparse()], r"waveforms\[0\] is no array of numbers"),
    "a tensor without data": ([torch.empty(RATE, device="meta")], r"waveforms\[0\] is no array"),
    "masked samples": ([np.ma.masked_greater(speech(), 0.1)], r"waveforms\[0\] has masked samples"),
    "NaN": ([speech(), with_value(np.nan)], r"waveforms\[1\]: audio holds NaN or infinite samples"),
    "infinity": ([with_value(-np.inf)], r"waveforms\[0\]: audio holds NaN or infinite samples"),
    "a NaN tensor": ([torch.full((RATE,), torch.nan)], r"waveforms\[0\]: audio holds NaN"),
    "nothing to hear": ([np.zeros(0)], r"waveforms\[0\] has 0 samples, less than the 400 of one"),
    "less than a frame": ([speech()[:399]], r"waveforms\[0\] has 399 samples.*: leave it out"),
    "an empty list": ([[]], r"waveforms\[0\] has 0 samples"),
    "floats of 16 bits": (
        [speech() * 32768],
        r"waveforms\[0\]: out of scale: .* divide them by 32768",
    ),
    "1e300": ([speech().astype(np.float64) * 1e300], r"waveforms\[0\]: out of scale: "),
    "16 bits as int32": (
        [(speech() * 32768).astype(np.int32)],
        r"waveforms\[0\] is of type int32 and holds 16-bit numbers.*astype\('int16'\)",
    ),
    "int64": (
        [(speech() * 32768).astype(np.int64)],
        r"waveforms\[0\] is of type int64, which has no",
    ),
    "uint16": ([speech().astype(np.uint16)], r"type uint16, which has no full scale"),
    "truth values": ([speech() > 0], r"waveforms\[0\] is of type bool"),
    "objects": ([speech().astype(object)], r"waveforms\[0\] is of type object"),
    "complex numbers": ([speech().astype(complex)], r"waveforms\[0\] is of type complex128"),
}


@pytest.mark.parametrize("case", REFUSED)
@pytest.mark.filterwarnings("error")
def test_what_is_unclear_is_one_error_about_the_argument(tokenizer, case):
    waveforms, message = REFUSED[case]
    for model in (tokenizer, tokenizer.mixer):
        with pytest.raises(ValueError, match=message) as caught:
            model.encode(waveforms)
        assert str(caught.value).startswith("waveforms")
        assert "\n" not in str(caught.value)
        assert "diverged" not in str(caught.value)


@pytest.mark.parametrize("seconds", [0, -1.0, float("nan"), float("inf")])
def test_a_batch_needs_a_length(tokenizer, seconds):
    with pytest.raises(ValueError, match=r"batch_seconds is .*: give a positive number"):
        tokenizer.encode([speech()], batch_seconds=seconds)


def test_float32_is_not_copied():
    waveform = speech()
    (found,) = as_waveforms([waveform], SSL_GRID)
    assert np.shares_memory(found, waveform)
