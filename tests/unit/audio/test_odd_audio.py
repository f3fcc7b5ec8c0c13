"""Audio of every format, rate and channel count; long files; files that are not what they say."""

import io
import os
import shutil
import struct
import tracemalloc

import numpy as np
import pytest
import soundfile

from pipeline.audio.decode import AudioError, decode, probe_seconds, read_audio, read_utterance
from pipeline.audio.utterance import Utterance

RATE = 16000


def sweep(seconds, rate, channels=1):
    """Each channel is a different rising tone below 3 kHz, all within [-0.5, 0.5]."""
    times = np.arange(round(seconds * rate)) / rate
    phases = [2 * np.pi * (200 * (1 + c) * times + 80 * times**2) for c in range(channels)]
    return 0.5 * np.sin(np.stack(phases, axis=1))


LOSSLESS = {
    ("WAV", "PCM_U8"): 2**-7,
    ("WAV", "PCM_16"): 2**-15,
    ("WAV", "PCM_24"): 2**-23,
    ("WAV", "PCM_32"): 2**-23,
    ("WAV", "FLOAT"): 2**-24,
    ("WAV", "DOUBLE"): 2**-24,
    ("WAVEX", "PCM_16"): 2**-15,
    ("RF64", "PCM_16"): 2**-15,
    ("W64", "PCM_24"): 2**-23,
    ("AIFF", "PCM_16"): 2**-15,
    ("FLAC", "PCM_S8"): 2**-7,
    ("FLAC", "PCM_16"): 2**-15,
    ("FLAC", "PCM_24"): 2**-23,
}


@pytest.mark.parametrize(("container", "subtype"), LOSSLESS)
def test_lossless_formats_are_exact_to_the_last_bit(tmp_path, container, subtype):
    samples, path = sweep(0.2, RATE, 2), tmp_path / "a"
    soundfile.write(path, samples, RATE, format=container, subtype=subtype)
    read, rate = decode(str(path))
    assert (rate, read.shape) == (RATE, samples.shape)
    assert np.abs(read - samples).max() <= LOSSLESS[container, subtype]


@pytest.mark.parametrize("channels", [1, 2, 3, 4, 5, 6, 7, 8])
@pytest.mark.parametrize("rate", [8000, 11025, 16000, 22050, 32000, 44100, 48000, 96000, 192000])
def test_any_rate_and_channel_count_becomes_16_khz_mono(tmp_path, rate, channels):
    soundfile.write(tmp_path / "a.wav", sweep(0.32, rate, channels), rate, subtype="FLOAT")
    read = read_audio(str(tmp_path / "a.wav"), RATE)
    expected = sweep(0.32, RATE, channels).mean(axis=1)
    assert read.shape == expected.shape == (5120,)
    assert np.abs(read - expected)[400:-400].max() < 0.02


LOSSY = [("OGG", "VORBIS", 44100), ("OGG", "OPUS", 48000), ("MP3", "MPEG_LAYER_III", 44100)]


@pytest.mark.parametrize(("container", "subtype", "rate"), LOSSY)
def test_lossy_formats_keep_length_time_and_pitch(tmp_path, container, subtype, rate):
    samples = sweep(2.0, rate, 2)
    soundfile.write(tmp_path / "a", samples, rate, format=container, subtype=subtype)
    read, _ = decode(str(tmp_path / "a"))
    assert read.shape == samples.shape
    assert np.abs(read - samples)[2000:-2000].max() < 0.05


SEEKABLE = [
    ("WAV", "PCM_16", 44100),
    ("WAV", "FLOAT", 48000),
    ("FLAC", "PCM_16", 44100),
    *LOSSY,
]


@pytest.mark.parametrize(("container", "subtype", "rate"), SEEKABLE)
@pytest.mark.parametrize("offset", [0.013, 1.0, 7.77777, 19.5])
def test_an_interval_is_exact_to_the_sample(tmp_path, container, subtype, rate, offset):
    noise = np.random.default_rng(0).normal(0, 0.1, (20 * rate, 2))
    soundfile.write(tmp_path / "a", noise, rate, format=container, subtype=subtype)
    complete, _ = decode(str(tmp_path / "a"))
    part, _ = decode(str(tmp_path / "a"), offset, 0.4)
    first = round(offset * rate)
    expected = complete[first : first + round(0.4 * rate)]
    assert part.shape == expected.shape
    np.testing.assert_allclose(part, expected, atol=1e-6)


@pytest.fixture(scope="module")
def variable_rate_mp3():
    """A minute, half of it noise, so that bytes are spread unevenly; with its original."""
    times = np.arange(60 * 44100) / 44100
    noise = np.random.default_rng(0).normal(0, 0.1, len(times))
    samples = np.where(np.sin(2 * np.pi * 0.3 * times) > 0, noise, np.sin(900 * times) / 9)
    file = io.BytesIO()
    settings = {"format": "MP3", "bitrate_mode": "VARIABLE", "compression_level": 0.5}
    soundfile.write(file, np.stack([samples, samples], axis=1), 44100, **settings)
    return file.getvalue()


@pytest.mark.parametrize("offset", [0.013, 7.77777, 30.0, 55.5])
@pytest.mark.parametrize("with_tags", [False, True])
def test_an_interval_of_a_variable_rate_mp3_is_exact_too(
    tmp_path, variable_rate_mp3, offset, with_tags
):
    tags = b"ID3\x04\0\0\0\0\x42\x02" + bytes(0x42 * 128 + 2) if with_tags else b""
    (tmp_path / "a").write_bytes(tags + variable_rate_mp3)
    complete, rate = decode(str(tmp_path / "a"))
    assert len(complete) == 60 * rate
    part, _ = decode(str(tmp_path / "a"), offset, 0.4)
    first = round(offset * rate)
    np.testing.assert_allclose(part, complete[first : first + len(part)], atol=1e-6)


def test_an_mp3_that_does_not_count_its_frames_is_refused(tmp_path, variable_rate_mp3):
    frame_bytes = variable_rate_mp3.index(variable_rate_mp3[:2], 4)
    (tmp_path / "a").write_bytes(variable_rate_mp3[frame_bytes:])
    with pytest.raises(AudioError, match="does not say its length"):
        decode(str(tmp_path / "a"))


def test_a_wrong_extension_does_not_matter(tmp_path):
    samples = sweep(0.2, RATE)
    for name in ("a.raw", "a.mp3", "a.flac", "a.ul", "a.gsm", "a"):
        soundfile.write(tmp_path / name, samples, RATE, format="WAV", subtype="FLOAT")
        np.testing.assert_allclose(decode(str(tmp_path / name))[0], samples, atol=1e-7)
    for name in ("b.raw", "b.wav", "b.ul", "b.gsm", "b.vox", "b.mp3", "b"):
        (tmp_path / name).write_text("no audio at all\n" * 100)
        with pytest.raises(AudioError, match="not readable as audio"):
            decode(str(tmp_path / name))


def wav_bytes(num_samples=RATE, **settings):
    file = io.BytesIO()
    samples = np.random.default_rng(0).normal(0, 0.1, (num_samples, 1))
    soundfile.write(file, samples, RATE, **{"format": "WAV", "subtype": "PCM_16", **settings})
    return file.getvalue()


CONTAINERS = [
    {"format": "WAV"},
    {"format": "WAV", "endian": "BIG"},
    {"format": "RF64"},
    {"format": "FLAC"},
    {"format": "OGG", "subtype": "VORBIS"},
    {"format": "OGG", "subtype": "OPUS"},
    {"format": "MP3", "subtype": "MPEG_LAYER_III"},
]


@pytest.mark.parametrize("share", [0.3, 0.6, 0.95, 0.9999])
@pytest.mark.parametrize("settings", CONTAINERS, ids=lambda settings: "-".join(settings.values()))
def test_a_file_cut_anywhere_is_refused_without_a_known_duration(tmp_path, settings, share):
    content = wav_bytes(4 * RATE, **settings)
    (tmp_path / "a").write_bytes(content)
    assert decode(str(tmp_path / "a"))[0].shape == (4 * RATE, 1)
    (tmp_path / "a").write_bytes(content[: int(len(content) * share)])
    with pytest.raises(AudioError, match="cut short"):
        decode(str(tmp_path / "a"))
    with pytest.raises(AudioError, match="cut short"):
        decode(str(tmp_path / "a"), offset=3.9, duration=0.1)


@pytest.mark.parametrize("settings", CONTAINERS, ids=lambda settings: "-".join(settings.values()))
def test_what_is_before_the_cut_can_be_used(tmp_path, settings):
    content = wav_bytes(10 * RATE, **settings)
    (tmp_path / "a").write_bytes(content)
    complete, _ = decode(str(tmp_path / "a"), 1.0, 2.0)
    (tmp_path / "a").write_bytes(content[: len(content) // 2])
    np.testing.assert_allclose(decode(str(tmp_path / "a"), 1.0, 2.0)[0], complete, atol=1e-6)


@pytest.mark.parametrize("length", [0xFFFFFFFF, 0x7FFFF000, 0x7FFFFFFF])
def test_a_stream_that_never_learned_its_length_is_read_to_its_end(tmp_path, length):
    content = bytearray(wav_bytes())
    position = content.index(b"data") + 4
    content[position : position + 4] = struct.pack("<I", length)
    (tmp_path / "a.wav").write_bytes(content)
    assert decode(str(tmp_path / "a.wav"))[0].shape == (RATE, 1)


@pytest.mark.parametrize(
    ("length", "message"),
    [
        (200_000, r"^audio is cut short: 32044 bytes of the 200044 its header promises$"),
        (
            0,
            r"^audio was never finished: its header says 0 bytes of samples, and 32000 bytes follow",
        ),
        (
            12_345,
            r"^audio does not match its header: it accounts for \d+ bytes of the file's 32044$",
        ),
        (
            31_998,
            r"^audio does not match its header: it accounts for 32042 bytes of the file's 32044$",
        ),
    ],
)
def test_a_header_that_lies_about_its_length(tmp_path, length, message):
    content = bytearray(wav_bytes())
    position = content.index(b"data") + 4
    content[position : position + 4] = struct.pack("<I", length)
    (tmp_path / "a.wav").write_bytes(content)
    with pytest.raises(AudioError, match=message):
        decode(str(tmp_path / "a.wav"))


def test_chunks_before_and_behind_the_samples_do_not_mislead(tmp_path):
    content = wav_bytes()
    listing = b"LIST" + struct.pack("<I", 7) + b"INFOabc\0"
    position = content.index(b"data")
    size = struct.pack("<I", len(content) + 2 * len(listing) - 8)
    mixed = content[:4] + size + content[8:position] + listing + content[position:] + listing
    (tmp_path / "a.wav").write_bytes(mixed)
    assert decode(str(tmp_path / "a.wav"))[0].shape == (RATE, 1)


@pytest.mark.parametrize("size", [1, 3, 4, 11, 12, 13, 20, 36, 43])
@pytest.mark.parametrize("settings", CONTAINERS, ids=lambda settings: "-".join(settings.values()))
def test_a_header_cut_short_is_an_audio_error(tmp_path, settings, size):
    (tmp_path / "a").write_bytes(wav_bytes(**settings)[:size])
    with pytest.raises(AudioError):
        decode(str(tmp_path / "a"))


def test_random_bytes_are_an_audio_error_or_samples(tmp_path):
    generator = np.random.default_rng(0)
    content = wav_bytes(2000)
    for _ in range(200):
        broken = bytearray(content)
        for position in generator.integers(0, 60, 4):
            broken[position] = generator.integers(256)
        (tmp_path / "a.wav").write_bytes(broken)
        try:
            samples, rate = decode(str(tmp_path / "a.wav"), max_seconds=60)
        except AudioError:
            continue
        assert np.isfinite(samples).all()
        assert rate > 0


def test_silence_is_audio(tmp_path):
    soundfile.write(tmp_path / "a.wav", np.zeros(RATE), RATE)
    assert not read_audio(str(tmp_path / "a.wav"), RATE).any()


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_broken_sample_counts_only_where_it_is_read(tmp_path, value):
    samples = np.zeros(RATE, np.float32)
    samples[12_000] = value
    soundfile.write(tmp_path / "a.wav", samples, RATE, subtype="FLOAT")
    with pytest.raises(AudioError, match="NaN or infinite"):
        read_audio(str(tmp_path / "a.wav"), RATE)
    assert len(read_audio(str(tmp_path / "a.wav"), RATE, 0.0, 0.5)) == 8000


def test_a_pipe_is_refused_and_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "a.wav")
    with pytest.raises(AudioError, match="it is not a regular file"):
        decode(str(tmp_path / "a.wav"))


def test_an_address_of_an_unknown_storage_is_refused():
    with pytest.raises(AudioError, match="the address cannot be read"):
        decode("nowhere://bucket/a.wav")


def test_a_rate_without_a_small_ratio_is_refused(tmp_path):
    soundfile.write(tmp_path / "a.wav", np.zeros(2205), 22051)
    assert probe_seconds(str(tmp_path / "a.wav")) == 2205 / 22051
    with pytest.raises(AudioError, match="sample rate is too odd: 22051 Hz"):
        read_audio(str(tmp_path / "a.wav"), RATE)


def test_an_utterance_damaged_since_is_named(tmp_path):
    soundfile.write(tmp_path / "a.wav", np.zeros(RATE), RATE)
    utterance = Utterance("u-1", "train", str(tmp_path / "a.wav"), 0.0, 1.0, "s", "text", None)
    assert len(read_utterance(utterance, RATE)) == RATE
    shutil.copyfile(tmp_path / "a.wav", tmp_path / "b.wav")
    os.truncate(tmp_path / "a.wav", 9000)
    with pytest.raises(AudioError, match=r"'u-1' \(.*a\.wav\) was intact.*but now: audio is cut"):
        read_utterance(utterance, RATE)


@pytest.fixture(scope="module")
def hour(tmp_path_factory):
    """An hour of 48 kHz stereo, 16 bits: a sparse file of 691 MB, with noise at 3000 s."""
    path = tmp_path_factory.mktemp("hour") / "hour.wav"
    num_bytes = 3600 * 48000 * 4
    header = b"RIFF" + struct.pack("<I", 36 + num_bytes) + b"WAVEfmt "
    header += struct.pack("<IHHIIHH", 16, 1, 2, 48000, 192000, 4, 16)
    noise = np.random.default_rng(0).integers(-9999, 9999, (480_000, 2), np.int16)
    with path.open("wb") as file:
        file.write(header + b"data" + struct.pack("<I", num_bytes))
        file.seek(44 + 3000 * 48000 * 4)
        file.write(noise.astype("<i2").tobytes())
        file.truncate(44 + num_bytes)
    return str(path), noise / 32768


def test_ten_seconds_of_an_hour_take_the_memory_of_ten_seconds(hour):
    uri, noise = hour
    tracemalloc.start()
    samples, _ = decode(uri, 3000.0, 10.0)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    np.testing.assert_array_equal(samples, noise.astype(np.float32))
    assert peak < 3 * samples.nbytes
