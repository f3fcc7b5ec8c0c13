import io
from dataclasses import replace

import fsspec
import numpy as np
import pytest
import soundfile
import torch
import torchaudio

from pipeline.audio.decode import (
    AudioError,
    change_speed,
    decode,
    probe_seconds,
    read_audio,
    read_utterance,
    resampled_length,
    write_audio,
)
from pipeline.audio.utterance import Utterance


def tone(seconds, rate, frequency=440.0):
    return (0.5 * np.sin(2 * np.pi * frequency * np.arange(round(seconds * rate)) / rate)).astype(
        np.float32
    )


def test_reads_back_what_was_written(tmp_path):
    samples = tone(0.5, 16000)
    write_audio(tmp_path / "a.flac", samples, 16000)
    read = read_audio(str(tmp_path / "a.flac"), 16000)
    assert read.dtype == np.float32
    assert read.shape == samples.shape
    assert np.abs(read - samples).max() <= 2**-15


def test_writes_into_a_file_that_cannot_seek():
    class Pipe(io.RawIOBase):
        content = b""

        def writable(self):
            return True

        def write(self, data):
            self.content += data
            return len(data)

    pipe = Pipe()
    write_audio(pipe, tone(0.1, 16000), 16000, format="WAV")
    assert soundfile.info(io.BytesIO(pipe.content)).frames == 1600


def test_probe_reads_the_header(tmp_path):
    stereo = np.stack([tone(0.25, 44100), tone(0.25, 44100)], axis=1)
    soundfile.write(tmp_path / "a.wav", stereo, 44100)
    assert probe_seconds(str(tmp_path / "a.wav")) == 0.25


def test_channels_are_averaged(tmp_path):
    left, right = tone(0.1, 16000), tone(0.1, 16000, 900.0)
    soundfile.write(tmp_path / "a.wav", np.stack([left, right], axis=1), 16000, subtype="FLOAT")
    expected = (left.astype(np.float64) + right) / 2
    assert np.abs(read_audio(str(tmp_path / "a.wav"), 16000) - expected).max() < 1e-6


@pytest.mark.parametrize("rate", [8000, 22050, 44100, 48000])
def test_resampling_keeps_a_tone_in_time_and_pitch(tmp_path, rate):
    soundfile.write(tmp_path / "a.wav", tone(0.5, rate), rate, subtype="FLOAT")
    read = read_audio(str(tmp_path / "a.wav"), 16000)
    expected = tone(0.5, 16000)
    assert len(read) == resampled_length(round(0.5 * rate), rate, 16000) == len(expected)
    # Away from the edges, where the filter lacks samples.
    assert np.abs(read - expected)[400:-400].max() < 5e-3


def test_offset_and_duration_are_exact_to_the_sample(tmp_path):
    samples = tone(1.0, 16000)
    soundfile.write(tmp_path / "a.wav", samples, 16000, subtype="FLOAT")
    read = read_audio(str(tmp_path / "a.wav"), 16000, offset=0.25, duration=0.5)
    np.testing.assert_array_equal(read, samples[4000:12000])


def test_reads_from_any_storage():
    uri = "memory://bucket/a.flac"
    with fsspec.open(uri, "wb") as file:
        write_audio(file, tone(0.2, 16000), 16000)
    assert read_audio(uri, 16000, offset=0.1).shape == (1600,)
    with pytest.raises(AudioError, match="no such audio file"):
        probe_seconds("memory://bucket/b.flac")


def test_a_windows_path_is_said_to_be_one(tmp_path):
    for name in ("audio\\a.wav", "C:\\data\\a.wav"):
        with pytest.raises(AudioError, match="no such audio file: its path has backslashes"):
            probe_seconds(f"{tmp_path}/{name}")
    write_audio(tmp_path / "a\\b.flac", tone(0.5, 16000), 16000)
    assert probe_seconds(f"{tmp_path}/a\\b.flac") == 0.5  # a name like any other where it exists


def test_a_rounded_duration_means_the_end(tmp_path):
    write_audio(tmp_path / "a.flac", tone(0.5, 16000), 16000)
    assert len(read_audio(str(tmp_path / "a.flac"), 16000, duration=0.504)) == 8000
    with pytest.raises(AudioError, match="beyond the file"):
        read_audio(str(tmp_path / "a.flac"), 16000, duration=0.52)


def test_too_long_is_refused_before_decoding(tmp_path):
    write_audio(tmp_path / "a.flac", tone(0.5, 16000), 16000)
    content = bytearray((tmp_path / "a.flac").read_bytes())
    content[1000:2000] = bytes(1000)  # decoding would fail there
    (tmp_path / "a.flac").write_bytes(content)
    with pytest.raises(AudioError, match=r"too long: 0\.5 s of at most 0\.2 s"):
        decode(str(tmp_path / "a.flac"), max_seconds=0.2)


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9, 0.999])
def test_a_flac_cut_anywhere_is_refused(tmp_path, share):
    noise = np.random.default_rng(0).normal(0, 0.1, 16000)
    write_audio(tmp_path / "a.flac", noise, 16000)
    content = (tmp_path / "a.flac").read_bytes()
    (tmp_path / "a.flac").write_bytes(content[: int(len(content) * share)])
    with pytest.raises(AudioError, match="cut short"):
        read_audio(str(tmp_path / "a.flac"), 16000)


def test_a_folder_is_refused(tmp_path):
    with pytest.raises(AudioError, match="folder"):
        probe_seconds(str(tmp_path))


def test_faster_speech_is_shorter_and_higher():
    faster = change_speed(tone(1.0, 16000, 400.0), 1.1, 16000)
    assert len(faster) == pytest.approx(16000 / 1.1, abs=1)
    peak_hz = np.abs(np.fft.rfft(faster)).argmax() / len(faster) * 16000
    assert peak_hz == pytest.approx(440, abs=2)


@pytest.mark.parametrize("speed", [0.9, 1.1, 1.25])
@pytest.mark.parametrize("rate", [16000, 8000])
def test_an_utterance_is_read_at_its_speed(tmp_path, speed, rate):
    path = str(tmp_path / "a.wav")
    write_audio(path, np.random.default_rng(0).normal(0, 0.1, 2 * rate), rate, "WAV")
    recorded = Utterance("a", "train", path, 0.5, 1.0, "s", "x")
    played = replace(recorded, duration=recorded.duration / speed, speed=speed)
    original, read = (read_utterance(each, 16000) for each in (recorded, played))
    expected, _ = torchaudio.functional.speed(torch.from_numpy(original), 16000, speed)
    assert np.array_equal(read, expected.numpy())
    assert len(read) == pytest.approx(played.duration * 16000, abs=1)
