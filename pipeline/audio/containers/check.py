"""Which check belongs to which container."""

import io
from collections.abc import Callable
from typing import NamedTuple

from pipeline.audio.containers.aiff import check_aiff
from pipeline.audio.containers.au import check_au
from pipeline.audio.containers.caf import check_caf
from pipeline.audio.containers.file_bytes import FileBytes
from pipeline.audio.containers.flac import check_flac
from pipeline.audio.containers.mp3 import check_mp3
from pipeline.audio.containers.ogg import OggPages, check_ogg
from pipeline.audio.containers.promise import Finding
from pipeline.audio.containers.sphere import check_sphere
from pipeline.audio.containers.tags import WithoutTags, start_behind_tags
from pipeline.audio.containers.voc import check_voc
from pipeline.audio.containers.wave import check_riff, check_wave64

_CHECKS: dict[bytes, Callable[[FileBytes], Finding | None]] = {
    b".snd": check_au,
    b"Crea": check_voc,
    b"FORM": check_aiff,
    b"NIST": check_sphere,
    b"OggS": check_ogg,
    b"RF64": check_riff,
    b"RIFF": check_riff,
    b"RIFX": check_riff,
    b"caff": check_caf,
    b"dns.": check_au,
    b"fLaC": check_flac,
    b"riff": check_wave64,
}


class Checked(NamedTuple):
    """A file's bytes as a decoder may read them, and what they say of themselves.

    There is no finding for a container that no check is for.
    """

    stream: io.RawIOBase
    finding: Finding | None

    @property
    def cut_short(self) -> str | None:
        """The reason why its end cannot be used."""
        missing = self.finding and self.finding.missing
        return f"audio is cut short: {missing}" if missing else None

    @property
    def damage(self) -> str | None:
        """The reason why what has been read so far cannot be used."""
        return self.stream.damage if isinstance(self.stream, OggPages) else None


def check(stream: io.RawIOBase, size: int) -> Checked:
    """Hold what the header of a file of `size` bytes promises against its bytes.

    Raises:
        ContainerError: it cannot be what its header says, whichever part of it is read.
    """
    file = FileBytes(stream, size)
    start = start_behind_tags(file)
    magic = file.at(start, 4)
    check_container = _CHECKS.get(magic)
    if check_container is None:
        return Checked(stream, check_mp3(file, start))
    if start:
        file = FileBytes(WithoutTags(stream, start, size), size - start)
    finding = check_container(file)
    if finding is None:
        return Checked(stream, None)
    if start or finding.end < file.size:
        stream = WithoutTags(stream, start, start + finding.end)
    if magic == b"OggS":
        stream = OggPages(stream, finding.end, is_complete=finding.missing is None)
    return Checked(stream, finding)
