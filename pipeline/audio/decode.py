"""Reading and writing audio of any sample rate and channel count, local or on any storage."""

import io
import math
import os
import stat
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np
import numpy.typing as npt
import soundfile
from fsspec.implementations.local import LocalFileSystem

from pipeline.audio.containers.promise import ContainerError
from pipeline.audio.containers.sound import Sound, open_sound
from pipeline.audio.identity import Identity, content_sha256
from pipeline.audio.remote_file import Recorded, open_remote
from pipeline.audio.signal import extremes, fault, mix
from pipeline.audio.unusable import UnusableError
from pipeline.audio.utterance import Utterance
from pipeline.storage.failures import DENIED_STATUSES, StorageError, http_status, may_recover
from pipeline.storage.folders import NOWHERE, FileInfo, filesystem_and_path, is_uri, printable

# Manifests round durations: an end beyond the file's by less than this means the file's end.
ROUNDING_SECONDS = 0.01

# For all filters of one resampling together: 256 MiB.
MOST_FILTER_TAPS = 1 << 26

# A local file that cannot be decoded is read again in such blocks, to see whether the disk fails.
READ_BYTES = 1 << 20

ANY_FILE = Identity()


class AudioError(ValueError):
    """Audio that cannot be used; the message says why."""


NO_FILE, NO_PERMISSION = "no such audio file", "no permission to read the audio file"


class AudioAccessError(AudioError):
    """The file cannot be opened now: there is NO_FILE, or NO_PERMISSION."""


class AudioStorageError(RuntimeError):
    """The storage failed to deliver the bytes of a file; the audio is not at fault."""


class _Opened(NamedTuple):
    """The sound in a file, the file's bytes, and its version."""

    sound: Sound
    stream: io.RawIOBase
    version: str


def probe_seconds(uri: str) -> float:
    """The duration that a file's header says.

    Raises:
        AudioError: the file is missing or empty, is not audio, or holds no samples.
        AudioStorageError: the storage failed.
    """
    with _open(uri) as opened:
        return opened.sound.num_samples / opened.sound.rate_hz


def probe_rate_hz(uri: str) -> int:
    """The sample rate that a file's header says.

    Raises:
        AudioError, AudioStorageError: as `probe_seconds`.
    """
    with _open(uri) as opened:
        return opened.sound.rate_hz


def decode(
    uri: str,
    offset: float = 0.0,
    duration: float | None = None,
    max_seconds: float = math.inf,
) -> tuple[npt.NDArray[np.float32], int]:
    """The samples (num_samples x num_channels) at the file's own rate, and that rate in Hz.

    Only the requested interval is decoded, and little more is fetched of a large remote file. A
    duration of None or infinity reads to the end of the file.

    Raises:
        AudioError: as `probe_seconds`; or the file is cut short within the interval, holds NaN or infinite
            samples there or such as have no full scale, or ends before `offset + duration`; or the
            interval is longer than `max_seconds`.
        AudioStorageError: the storage failed.
    """
    with _open(uri) as opened:
        samples, rate_hz = _samples(opened, offset, duration, max_seconds), opened.sound.rate_hz
    if reason := fault(*extremes(samples)):
        raise AudioError(reason)
    return samples, rate_hz


def decode_and_identify(
    uri: str, offset: float, duration: float | None, max_seconds: float, known: Identity = ANY_FILE
) -> tuple[npt.NDArray[np.float32], int, Identity]:
    """`decode`, and which file that was; if it is `known`, its content is not hashed again.

    Samples are returned whatever they hold: a `Signal` finds NaN and absurd scales. There is no hash of a large remote file, of which only the interval is fetched.
    """
    with _open(uri, known) as opened:
        samples, rate_hz = _samples(opened, offset, duration, max_seconds), opened.sound.rate_hz
        if known != ANY_FILE:
            return samples, rate_hz, known
        in_parts = isinstance(opened.stream, Recorded) and opened.stream.in_parts
        sha256 = "" if in_parts else content_sha256(opened.stream)
        return samples, rate_hz, Identity(opened.version, sha256)


def read_audio(
    uri: str,
    sample_rate_hz: int,
    offset: float = 0.0,
    duration: float | None = None,
    expected: Identity = ANY_FILE,
) -> npt.NDArray[np.float32]:
    """The samples as mono float32 of shape (num_samples,) at `sample_rate_hz`.

    `Signal` says how channels become one.

    Raises:
        AudioError: as `decode`; or `resample` cannot convert the file's rate; or the file is not
            the `expected` one.
        AudioStorageError: the storage failed.
    """
    with _open(uri, expected) as opened:
        samples, native_rate_hz = _samples(opened, offset, duration), opened.sound.rate_hz
    return _mono(samples, native_rate_hz, sample_rate_hz)


def read_slices(
    uri: str, sample_rate_hz: int, plan: Callable[[int], Sequence[slice]]
) -> Iterator[tuple[slice, npt.NDArray[np.float32]]]:
    """Each slice of what `read_audio` reads, with one of them in memory at a time.

    `plan` gets the length in samples at `sample_rate_hz`. Of a file at another rate, the ends of a
    slice are resampled without what lies behind them.

    Raises:
        AudioError, AudioStorageError: as `read_audio`; the first slice tells of a file that is cut
            short, whichever slice lacks its end.
    """
    with _open(uri) as opened:
        sound = opened.sound
        if sound.cut_short is not None:
            raise AudioError(sound.cut_short)
        length = resampled_length(sound.num_samples, sound.rate_hz, sample_rate_hz)
        for part in plan(length):
            first, last = (at * sound.rate_hz // sample_rate_hz for at in (part.start, part.stop))
            if part.stop >= length:
                last = sound.num_samples
            samples = sound.read(first, last - first)
            yield part, _mono(samples, sound.rate_hz, sample_rate_hz)


def read_utterance(utterance: Utterance, sample_rate_hz: int) -> npt.NDArray[np.float32]:
    """`read_audio` of an utterance of a prepared corpus, at its speed.

    Raises:
        AudioError: the file is not what was prepared; the message names the utterance.
        AudioStorageError: the storage failed.
    """
    identity = Identity(utterance.audio_version, utterance.audio_sha256)
    interval = utterance.offset, utterance.duration * utterance.speed
    try:
        samples = read_audio(utterance.audio, sample_rate_hz, *interval, identity)
    except AudioError as error:
        raise AudioError(
            f"utterance '{utterance.utt_id}' ({utterance.audio}) was intact when the corpus was "
            f"prepared, but now: {error}. Restore the file, or give the same command again: it "
            "prepares the corpus as it is now"
        ) from None
    return change_speed(samples, utterance.speed, sample_rate_hz)


def require_resampling(from_hz: int, to_hz: int) -> None:
    """Refuse a rate whose filters, one for each phase of the two rates, would not fit in memory.

    Raises:
        AudioError: the rates have no small ratio; 22051 Hz to 16000 Hz takes 16000 filters of
            22051 taps.
    """
    common = math.gcd(from_hz, to_hz)
    if (from_hz // common) * (to_hz // common) > MOST_FILTER_TAPS:
        raise AudioError(
            f"sample rate is too odd: {from_hz} Hz has no small ratio to {to_hz} Hz; convert the "
            "audio to a usual rate"
        )


def resample(samples: npt.NDArray[np.float32], from_hz: int, to_hz: int) -> npt.NDArray[np.float32]:
    """Band-limited resampling of shape (num_samples,); see `resampled_length`."""
    import torch
    from torchaudio.functional import resample as sinc_resample

    resampled: npt.NDArray[np.float32] = sinc_resample(
        torch.from_numpy(samples), from_hz, to_hz
    ).numpy()
    return resampled


def change_speed(
    samples: npt.NDArray[np.float32], speed: float, sample_rate_hz: int
) -> npt.NDArray[np.float32]:
    """Samples played faster by `speed`, to two decimals: tempo, pitch and formants change."""
    return (
        samples if speed == 1 else resample(samples, round(speed * sample_rate_hz), sample_rate_hz)
    )


def resampled_length(num_samples: int, from_hz: int, to_hz: int) -> int:
    """The number of samples that `resample` returns: ceil(num_samples * to / from)."""
    return -(-num_samples * to_hz // from_hz)


def write_audio(
    file_or_path: str | Path | IO[bytes],
    samples: npt.NDArray[Any],
    sample_rate_hz: int,
    format: str = "FLAC",  # noqa: A002 - soundfile's own word for it
) -> None:
    """Write samples, float in [-1, 1] or int16, of shape (num_samples,), as 16-bit audio."""
    # Encoders seek back to complete their header, which a file on an object store does not allow.
    buffer = io.BytesIO()
    soundfile.write(buffer, samples, sample_rate_hz, subtype="PCM_16", format=format)
    if isinstance(file_or_path, str | Path):
        Path(file_or_path).write_bytes(buffer.getvalue())
    else:
        file_or_path.write(buffer.getvalue())


def _mono(
    samples: npt.NDArray[np.float32], native_rate_hz: int, sample_rate_hz: int
) -> npt.NDArray[np.float32]:
    require_resampling(native_rate_hz, sample_rate_hz)
    try:
        mono = mix(samples, native_rate_hz)
    except UnusableError as error:
        raise AudioError(str(error)) from None
    if native_rate_hz == sample_rate_hz:
        return mono
    return resample(mono, native_rate_hz, sample_rate_hz)


def _samples(
    opened: _Opened, offset: float, duration: float | None, max_seconds: float = math.inf
) -> npt.NDArray[np.float32]:
    """The samples (num_samples x num_channels) of an interval; see `decode`."""
    sound = opened.sound
    first, count = _range(sound, offset, duration)
    if count > max_seconds * sound.rate_hz:
        raise AudioError(f"too long: {count / sound.rate_hz:g} s of at most {max_seconds:g} s")
    return sound.read(first, count)


def _range(sound: Sound, offset: float, duration: float | None) -> tuple[int, int]:
    """First sample and number of samples of the requested interval."""
    rate, length = sound.rate_hz, sound.num_samples
    first, last = round(offset * rate), length
    if duration is not None and math.isfinite(duration):
        last = first + round(duration * rate)
    if sound.cut_short is not None and last >= length:
        raise ContainerError(sound.cut_short)
    if first >= length or last - length > ROUNDING_SECONDS * rate:
        interval = f"from {first / rate:g} s to {last / rate:g} s of {length / rate:g} s"
        raise AudioError(f"offset and duration lie beyond the file: {interval}")
    return first, min(last, length) - first


@contextmanager
def _open(uri: str, expected: Identity = ANY_FILE) -> Iterator[_Opened]:
    try:
        with _bytes(uri) as (stream, info):
            if not expected.is_of(stream, info):
                raise AudioError("it is another file than was prepared")
            size = stream.seek(0, io.SEEK_END)
            if size == 0:
                raise AudioError("audio file is empty (0 bytes)")
            with open_sound(stream, size) as sound:
                yield _Opened(sound, stream, str(info))
    except ContainerError as error:
        raise AudioError(str(error)) from None


@contextmanager
def _bytes(uri: str) -> Iterator[tuple[io.RawIOBase, FileInfo]]:
    """The file's bytes, which can seek; a storage that fails to deliver them is an error."""
    try:
        stream, info = _stream(uri)
    except (AudioError, MemoryError):
        raise
    except Exception as error:
        raise _blamed(error, uri) from error
    with stream:
        try:
            yield stream, info
        except OSError as error:
            raise _blamed(error, uri) from error
        except ContainerError:
            if isinstance(stream, io.FileIO):
                _read_through(stream, uri)
            raise
        finally:
            if isinstance(stream, Recorded) and stream.failure is not None:
                raise _blamed(stream.failure, uri) from stream.failure


def _stream(uri: str) -> tuple[io.RawIOBase, FileInfo]:
    if not is_uri(uri):
        return _local(uri)
    filesystem, path = filesystem_and_path(uri)
    info = filesystem.info(path)
    if info["type"] == "directory":
        raise AudioError("not readable as audio: it is a folder")
    if info["type"] != "file":
        raise AudioError("not readable as audio: it is not a regular file")
    if isinstance(filesystem, LocalFileSystem):
        return _local(path)
    return open_remote(filesystem, path, info["size"]), FileInfo.remote(info)


def _local(path: str) -> tuple[io.FileIO, FileInfo]:
    # fsspec and pathlib would take a fifth of the time that a short file takes in all.
    status = os.stat(path)  # noqa: PTH116
    if stat.S_ISDIR(status.st_mode):
        raise AudioError("not readable as audio: it is a folder")
    if not stat.S_ISREG(status.st_mode):
        raise AudioError("not readable as audio: it is not a regular file")
    return io.FileIO(path), FileInfo.of(status)


def _read_through(file: io.FileIO, uri: str) -> None:
    """Find out whether the disk fails, which libsndfile takes for the end of the file."""
    try:
        file.seek(0)
        while file.read(READ_BYTES):
            pass
    except OSError as error:
        raise _blamed(error, uri) from error


def _blamed(error: Exception, uri: str) -> AudioError | AudioStorageError:
    """The reason for a reject, unless another try may succeed."""
    if may_recover(error):
        reason = error.__cause__ if isinstance(error, FileNotFoundError) else error
        return AudioStorageError(f"{printable(uri)} cannot be fetched: {reason}; run again")
    if isinstance(error, PermissionError) or http_status(error) in DENIED_STATUSES:
        details = f": {error}" * isinstance(error, StorageError)
        return AudioAccessError(f"{NO_PERMISSION}{details}")
    if isinstance(error, FileNotFoundError):
        hint = ": its path has backslashes, as on Windows; write slashes" * ("\\" in uri)
        return AudioAccessError(f"{NO_FILE}{hint}")
    if isinstance(error, OSError) and error.errno in NOWHERE:
        return AudioAccessError(f"{NO_FILE}: {error.strerror}")
    return AudioError(f"the address cannot be read: {error}")
