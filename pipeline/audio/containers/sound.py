"""A sound file that libsndfile decodes, and whose container has been held against its bytes."""

import io
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import soundfile

from pipeline.audio.containers.check import Checked, check
from pipeline.audio.containers.promise import ContainerError, Finding

# An MP3 frame borrows bits from earlier frames: after a seek, up to about five thousand samples are
# silent, and all later ones are exact.
_MP3_LEAD = 1 << 15

# libsndfile reports at least this where a header does not tell the length.
_UNKNOWN_LENGTH = 2**62


class Sound(NamedTuple):
    """A file as libsndfile sees it, and what its bytes say of themselves."""

    file: soundfile.SoundFile
    container: str
    checked: Checked
    finding: Finding

    @property
    def rate_hz(self) -> int:
        return int(self.file.samplerate)

    @property
    def num_samples(self) -> int:
        """Of each channel."""
        promised = self.finding.num_samples
        return int(self.file.frames if promised is None else promised)

    @property
    def cut_short(self) -> str | None:
        """The reason why its end cannot be used."""
        return self.checked.cut_short

    def read(self, first: int, count: int) -> npt.NDArray[np.float32]:
        """`count` samples (count x num_channels) from sample `first` on.

        Raises:
            ContainerError: they are not all there.
        """
        try:
            # One read for lead and samples: soundfile seeks after each.
            lead = min(first, self._lead)
            if first > lead:
                self.file.seek(first - lead)
            decoded = self.file.read(lead + count, dtype="float32", always_2d=True)
        except soundfile.LibsndfileError as error:
            raise ContainerError(f"audio is cut short or damaged: {error.error_string}") from None
        samples: npt.NDArray[np.float32] = decoded[lead:]
        if len(samples) < count:
            raise ContainerError(
                f"audio is cut short: {len(samples)} samples of the {count} its header promises"
            )
        if first + count == self.num_samples:
            self._require_nothing_unread()
        return samples

    @property
    def _lead(self) -> int:
        """So many samples early decoding starts, so that those asked for are exact."""
        if not self.file.seekable():
            return int(self.file.frames)
        return _MP3_LEAD if self.container == "MP3" else 0

    def _require_nothing_unread(self) -> None:
        """Refuse a FLAC file that another follows: libFLAC stops at the last sample of the first."""
        if self.container != "FLAC":
            return
        unread = self.finding.end - self.checked.stream.tell()
        if unread > 0:
            raise ContainerError(
                f"audio holds more than one stream: {unread} bytes lie behind its last sample"
            )


@contextmanager
def open_sound(stream: io.RawIOBase, size: int) -> Iterator[Sound]:
    """The sound in a file of `size` bytes.

    Raises:
        ContainerError: it is not readable as audio, or not what its header promises; on leaving, also
            if what has been read was damaged.
    """
    checked = check(stream, size)
    try:
        with _open(checked) as file:
            if checked.finding is None:
                raise ContainerError(
                    f"container is not supported: nothing would show a cut in {file.format_info}; "
                    "convert it to WAV or FLAC"
                )
            if file.frames == 0:
                raise ContainerError(checked.cut_short or "audio holds no samples")
            if file.frames >= _UNKNOWN_LENGTH:
                raise ContainerError(
                    "audio does not say its length: encode it again to a complete file"
                )
            yield Sound(file, file.format, checked, checked.finding)
    finally:
        if checked.damage is not None:
            raise ContainerError(checked.damage) from None


def _open(checked: Checked) -> soundfile.SoundFile:
    stream = checked.stream
    stream.seek(0)
    # libsndfile gets no name, as a wrong extension would mislead it. From the descriptor of a
    # local file it reads without calling Python.
    source = stream.fileno() if isinstance(stream, io.FileIO) else stream
    try:
        return soundfile.SoundFile(source, closefd=False)
    except soundfile.LibsndfileError as error:
        reason = checked.cut_short or f"not readable as audio: {error.error_string}"
        raise ContainerError(reason) from None
