"""Speech in every container that the project reads, and an independent decoder (FFmpeg's)."""

import functools
import io
from pathlib import Path
from typing import NamedTuple

import av
import numpy as np
import soundfile

SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"
SECONDS = 1.0


class Settings(NamedTuple):
    container: str
    coding: str
    rate_hz: int = 16000
    channels: int = 1
    endian: str = "FILE"


class SoundFile(NamedTuple):
    """A file's bytes, and the number of samples of each channel that went into it."""

    content: bytes
    num_samples: int


WRITTEN = {
    "-".join(map(str, settings)): settings
    for settings in (
        Settings("WAV", "PCM_U8"),
        Settings("WAV", "PCM_16"),
        Settings("WAV", "PCM_16", channels=2),
        Settings("WAV", "PCM_16", endian="BIG"),
        Settings("WAV", "PCM_24"),
        Settings("WAV", "PCM_32"),
        Settings("WAV", "FLOAT"),
        Settings("WAV", "DOUBLE"),
        Settings("WAV", "ULAW", 8000),
        Settings("WAV", "ALAW", 8000),
        Settings("WAV", "IMA_ADPCM"),
        Settings("WAV", "MS_ADPCM"),
        Settings("WAV", "GSM610", 8000),
        Settings("WAV", "G721_32", 8000),
        Settings("WAVEX", "PCM_16", channels=2),
        Settings("RF64", "PCM_16"),
        Settings("W64", "PCM_16"),
        Settings("W64", "PCM_24", channels=2),
        Settings("AIFF", "PCM_16"),
        Settings("AIFF", "PCM_16", endian="LITTLE"),
        Settings("AIFF", "PCM_S8", channels=2),
        Settings("AIFF", "FLOAT"),
        Settings("AIFF", "ULAW", 8000),
        Settings("AU", "PCM_16", endian="BIG"),
        Settings("AU", "PCM_16", endian="LITTLE"),
        Settings("AU", "ULAW", 8000),
        Settings("AU", "G721_32", 8000),
        Settings("CAF", "PCM_16"),
        Settings("CAF", "FLOAT", channels=2, endian="BIG"),
        Settings("CAF", "ALAC_16"),
        Settings("NIST", "PCM_16"),
        Settings("NIST", "PCM_16", channels=2, endian="BIG"),
        Settings("NIST", "ULAW", 8000),
        Settings("VOC", "PCM_U8"),
        Settings("VOC", "PCM_16"),
        Settings("FLAC", "PCM_16"),
        Settings("FLAC", "PCM_24", channels=2),
        Settings("OGG", "VORBIS"),
        Settings("OGG", "OPUS", 48000),
        Settings("MP3", "MPEG_LAYER_III"),
        Settings("MP3", "MPEG_LAYER_III", 44100, 2),
    )
}
# Recordings that lie beside the repository, where they do.
REAL = {
    "FLAC-recorded": "spoken_digits/**/*.flac",
    "OGG-recorded": "ljspeech_excerpt/**/*.ogg",
}


def names() -> list[str]:
    """Each begins with its container."""
    return [*WRITTEN, *(name for name, pattern in REAL.items() if any(SHARED.glob(pattern)))]


@functools.cache
def make(name: str) -> SoundFile:
    if name in REAL:
        path = min(SHARED.glob(REAL[name]))
        return SoundFile(path.read_bytes(), soundfile.info(path).frames)
    container, coding, rate_hz, channels, endian = WRITTEN[name]
    speech, file = like_speech(rate_hz, channels), io.BytesIO()
    soundfile.write(file, speech, rate_hz, format=container, subtype=coding, endian=endian)
    return SoundFile(file.getvalue(), len(speech))


def like_speech(rate_hz: int, channels: int) -> np.ndarray:
    """A gliding harmonic sound in noise (num_samples x channels); it ends in no silence."""
    times = np.arange(round(SECONDS * rate_hz)) / rate_hz
    noise = np.random.default_rng(0).normal(0, 0.02, (len(times), channels))
    pitch = 2 * np.pi * (110 * times + 15 * np.sin(3 * times))
    tones = sum(np.sin(k * pitch) / k for k in (1, 2, 3, 5, 8))
    return 0.15 * tones[:, None] * np.linspace(1, 0.5, channels) + noise + 0.05


def decode_with_ffmpeg(content: bytes) -> np.ndarray:
    """The samples of a complete file, float32 (num_samples x channels)."""
    with av.open(io.BytesIO(content)) as container:
        to_planes = av.AudioResampler(format="fltp")
        frames = [*container.decode(audio=0), None]
        planes = [plane for frame in frames for plane in to_planes.resample(frame)]
    return np.concatenate([plane.to_ndarray() for plane in planes], axis=1).T


def encode_with_ffmpeg(speech: np.ndarray, rate_hz: int, container: str, coding: str) -> bytes:
    """A file of mono speech, float (num_samples,)."""
    file = io.BytesIO()
    with av.open(file, "w", format=container) as output:
        stream = output.add_stream(coding, rate=rate_hz, layout="mono")
        frame = av.AudioFrame.from_ndarray(np.float32(speech)[None], format="fltp", layout="mono")
        frame.sample_rate = rate_hz
        stream.codec_context.open()
        size = stream.codec_context.frame_size or 576
        convert = av.AudioResampler(stream.format.name, "mono", rate_hz, frame_size=size)
        for converted in [*convert.resample(frame), *convert.resample(None), None]:
            output.mux(stream.encode(converted))
    return file.getvalue()
