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

# libsndfile's names of the containers whose promises are held against their bytes.
CHECKED = frozenset({
    "AIFF", "AU", "CAF", "FLAC", "MP3", "NIST", "OGG", "RF64", "VOC", "W64", "WAV", "WAVEX",
})  # fmt: skip

_CHECKS: dict[bytes, Callable[[FileBytes], Finding]] = {
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
    """A file's bytes as a decoder may read them, and what they say of themselves."""

    stream: io.RawIOBase
    finding: Finding

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
        is_mp3 = magic[:1] == b"\xff" and magic[1:2] >= b"\xe0"
        return Checked(stream, check_mp3(file, start) if is_mp3 else Finding(size))
    if start:
        file = FileBytes(WithoutTags(stream, start, size), size - start)
    finding = check_container(file)
    if start or finding.end < file.size:
        stream = WithoutTags(stream, start, start + finding.end)
    if magic == b"OggS":
        stream = OggPages(stream, finding.end, is_complete=finding.missing is None)
    return Checked(stream, finding)
