"""Reading and writing audio, local or on any fsspec storage, of any sample rate and channel count."""

import io
import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import fsspec
import numpy as np
import numpy.typing as npt
import soundfile
from fsspec.implementations.local import LocalFileSystem

# Manifests round durations; an end that overshoots the file by less than this is taken for its end.
ROUNDING_SECONDS = 0.01

# What libsndfile reports where a header does not say how long the audio is.
_UNKNOWN_LENGTH = 2**62


class AudioError(ValueError):
    """Audio that cannot be used; the message says why."""


@dataclass(frozen=True)
class AudioInfo:
    """What a file's header says."""

    duration_seconds: float
    sample_rate_hz: int
    num_channels: int


def probe(uri: str) -> AudioInfo:
    """Read the header alone.

    Raises:
        AudioError: the file is missing, empty, no audio, or holds no samples.
    """
    with _open(uri) as file:
        return AudioInfo(file.frames / file.samplerate, file.samplerate, file.channels)


def decode(
    uri: str,
    offset: float = 0.0,
    duration: float | None = None,
    max_seconds: float = math.inf,
) -> tuple[npt.NDArray[np.float32], int]:
    """The samples (num_samples x num_channels) at the file's own rate, and that rate in Hz.

    A duration of None or infinity reads to the file's end.

    Raises:
        AudioError: as `probe`; or the file is cut short, holds NaN or infinite samples, or ends
            before `offset + duration`; or more than `max_seconds` would have to be read.
    """
    with _open(uri) as file:
        first, count = _range(file, offset, duration)
        if count > max_seconds * file.samplerate:
            raise AudioError(
                f"too long: {count / file.samplerate:g} s of at most {max_seconds:g} s"
            )
        try:
            file.seek(first)
            samples = file.read(count, dtype="float32", always_2d=True)
        except soundfile.LibsndfileError as error:
            raise AudioError(f"audio is cut short or damaged: {error.error_string}") from None
        if len(samples) < count:
            raise AudioError(
                f"audio is cut short: {len(samples)} samples of the {count} its header promises"
            )
        if not np.isfinite(samples).all():
            raise AudioError("audio holds NaN or infinite samples")
        return samples, file.samplerate


def read_audio(
    uri: str, sample_rate_hz: int, offset: float = 0.0, duration: float | None = None
) -> npt.NDArray[np.float32]:
    """The samples as mono (channels averaged) float32 of shape (num_samples,) at `sample_rate_hz`.

    Raises:
        AudioError: as `decode`.
    """
    samples, native_rate_hz = decode(uri, offset, duration)
    mono = samples.mean(axis=1, dtype=np.float32)
    if native_rate_hz == sample_rate_hz:
        return mono
    return resample(mono, native_rate_hz, sample_rate_hz)


def resample(samples: npt.NDArray[np.float32], from_hz: int, to_hz: int) -> npt.NDArray[np.float32]:
    """Band-limited resampling of shape (num_samples,); see `resampled_length`."""
    import torch
    from torchaudio.functional import resample as sinc_resample

    resampled: npt.NDArray[np.float32] = sinc_resample(
        torch.from_numpy(samples), from_hz, to_hz
    ).numpy()
    return resampled


def resampled_length(num_samples: int, from_hz: int, to_hz: int) -> int:
    """How many samples `resample` makes of `num_samples`: ceil(num_samples * to / from)."""
    return -(-num_samples * to_hz // from_hz)


def write_audio(
    file_or_path: str | Path | IO[bytes],
    samples: npt.NDArray[Any],
    sample_rate_hz: int,
    format: str = "FLAC",  # noqa: A002 - soundfile's own word for it
) -> None:
    """Write samples, float in [-1, 1] or int16, of shape (num_samples,), as 16-bit audio."""
    # Encoders seek back to complete their header, which the file of an object store cannot.
    buffer = io.BytesIO()
    soundfile.write(buffer, samples, sample_rate_hz, subtype="PCM_16", format=format)
    if isinstance(file_or_path, str | Path):
        Path(file_or_path).write_bytes(buffer.getvalue())
    else:
        file_or_path.write(buffer.getvalue())


def _range(file: soundfile.SoundFile, offset: float, duration: float | None) -> tuple[int, int]:
    """First sample and number of samples of the asked stretch."""
    rate, length = file.samplerate, file.frames
    first, last = round(offset * rate), length
    if duration is not None and math.isfinite(duration):
        last = first + round(duration * rate)
    if first >= length or last - length > ROUNDING_SECONDS * rate:
        asked = f"from {first / rate:g} s to {last / rate:g} s of {length / rate:g} s"
        raise AudioError(f"offset and duration lie beyond the file: {asked}")
    return first, min(last, length) - first


@contextmanager
def _open(uri: str) -> Iterator[soundfile.SoundFile]:
    source = _source(uri)
    try:
        file = soundfile.SoundFile(source)
    except soundfile.LibsndfileError as error:
        raise AudioError(f"not readable as audio: {error.error_string}") from None
    with file:
        if file.frames == 0:
            raise AudioError("audio holds no samples")
        if file.frames >= _UNKNOWN_LENGTH:
            raise AudioError("audio does not say its length: encode it again to a whole file")
        yield file


def _source(uri: str) -> str | io.BytesIO:
    """What libsndfile reads: a local path, or all bytes of a remote file."""
    filesystem, path = fsspec.core.url_to_fs(uri)
    try:
        info = filesystem.info(path)
    except FileNotFoundError:
        raise AudioError("no such audio file") from None
    except PermissionError:
        raise AudioError("no permission to read the audio file") from None
    if info["type"] == "directory":
        raise AudioError("not readable as audio: it is a folder")
    if info["size"] == 0:
        raise AudioError("audio file is empty (0 bytes)")
    if isinstance(filesystem, LocalFileSystem):
        return str(path)
    # All at once: a network error inside libsndfile's callbacks would look like a short file.
    return io.BytesIO(filesystem.cat_file(path))
