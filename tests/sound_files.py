"""Speech in every container that the project reads, and an independent decoder (FFmpeg's)."""

import io
from pathlib import Path
from typing import NamedTuple

import av
import numpy as np
import soundfile

TESTS = Path(__file__).resolve().parent
REAL = {
    "real FLAC": "spoken_digits/**/*.flac",
    "real Vorbis": "ljspeech_excerpt/**/*.ogg",
}
SECONDS = 1.0


class SoundFile(NamedTuple):
    """A file's bytes, its number of samples for each channel, and what FFmpeg decodes from it."""

    content: bytes
    num_samples: int
    samples: np.ndarray | None  # num_samples x num_channels


# Container, coding, byte order, rate in Hz, channels.
WRITTEN = [
    ("WAV", "PCM_U8", "FILE", 16000, 1),
    ("WAV", "PCM_16", "FILE", 16000, 1),
    ("WAV", "PCM_16", "FILE", 16000, 2),
    ("WAV", "PCM_16", "BIG", 16000, 1),
    ("WAV", "PCM_24", "FILE", 16000, 1),
    ("WAV", "PCM_32", "FILE", 16000, 1),
    ("WAV", "FLOAT", "FILE", 16000, 1),
    ("WAV", "DOUBLE", "FILE", 16000, 1),
    ("WAV", "ULAW", "FILE", 8000, 1),
    ("WAV", "ALAW", "FILE", 8000, 1),
    ("WAV", "IMA_ADPCM", "FILE", 16000, 1),
    ("WAV", "MS_ADPCM", "FILE", 16000, 1),
    ("WAV", "GSM610", "FILE", 8000, 1),
    ("WAV", "G721_32", "FILE", 8000, 1),
    ("WAVEX", "PCM_16", "FILE", 16000, 2),
    ("RF64", "PCM_16", "FILE", 16000, 1),
    ("W64", "PCM_16", "FILE", 16000, 1),
    ("W64", "PCM_24", "FILE", 16000, 2),
    ("AIFF", "PCM_16", "FILE", 16000, 1),
    ("AIFF", "PCM_16", "LITTLE", 16000, 1),
    ("AIFF", "PCM_S8", "FILE", 16000, 2),
    ("AIFF", "FLOAT", "FILE", 16000, 1),
    ("AIFF", "ULAW", "FILE", 8000, 1),
    ("AU", "PCM_16", "BIG", 16000, 1),
    ("AU", "PCM_16", "LITTLE", 16000, 1),
    ("AU", "ULAW", "FILE", 8000, 1),
    ("AU", "G721_32", "FILE", 8000, 1),
    ("CAF", "PCM_16", "FILE", 16000, 1),
    ("CAF", "FLOAT", "BIG", 16000, 2),
    ("CAF", "ALAC_16", "FILE", 16000, 1),
    ("NIST", "PCM_16", "FILE", 16000, 1),
    ("NIST", "PCM_16", "BIG", 16000, 2),
    ("NIST", "ULAW", "FILE", 8000, 1),
    ("VOC", "PCM_U8", "FILE", 16000, 1),
    ("VOC", "PCM_16", "FILE", 16000, 1),
    ("FLAC", "PCM_16", "FILE", 16000, 1),
    ("FLAC", "PCM_24", "FILE", 16000, 2),
    ("OGG", "VORBIS", "FILE", 16000, 1),
    ("OGG", "OPUS", "FILE", 48000, 1),
    ("MP3", "MPEG_LAYER_III", "FILE", 16000, 1),
    ("MP3", "MPEG_LAYER_III", "FILE", 44100, 2),
]


def names() -> list[str]:
    return [*(_name(*settings) for settings in WRITTEN), *REAL]


def make(name: str) -> SoundFile | None:
    """The file of that name; None where its recording is not beside the repository."""
    if name in REAL:
        folder = TESTS.parent.parent / "shared" / "data"
        path = next(iter(sorted(folder.glob(REAL[name]))), None)
        if path is None:
            return None
        content = path.read_bytes()
        return SoundFile(content, soundfile.info(path).frames, decode(content))
    container, coding, endian, rate, channels = next(
        settings for settings in WRITTEN if _name(*settings) == name
    )
    file = io.BytesIO()
    speech = like_speech(rate, channels)
    soundfile.write(file, speech, rate, format=container, subtype=coding, endian=endian)
    return SoundFile(file.getvalue(), len(speech), decode(file.getvalue()))


def like_speech(rate: int, channels: int) -> np.ndarray:
    """A gliding harmonic sound with noise in it and no silence; each channel differs."""
    times = np.arange(round(SECONDS * rate)) / rate
    noise = np.random.default_rng(0).normal(0, 0.02, (len(times), channels))
    pitch = 2 * np.pi * (110 * times + 15 * np.sin(3 * times))
    tones = sum(np.sin(k * pitch) / k for k in (1, 2, 3, 5, 8))
    return 0.15 * tones[:, None] * np.linspace(1, 0.5, channels) + noise + 0.05


def decode(content: bytes) -> np.ndarray | None:
    """What FFmpeg decodes, float32 (num_samples x num_channels); None where it cannot."""
    try:
        with av.open(io.BytesIO(content)) as container:
            to_planes = av.AudioResampler(format="fltp")
            frames = [*container.decode(audio=0), None]
            planes = [plane for frame in frames for plane in to_planes.resample(frame)]
            return np.concatenate([plane.to_ndarray() for plane in planes], axis=1).T
    except (av.error.FFmpegError, ValueError):
        return None


def _name(container: str, coding: str, endian: str, rate: int, channels: int) -> str:
    return f"{container} {coding} {endian.lower()} {rate} Hz {channels}".replace(" file", "")
