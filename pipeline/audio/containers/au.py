"""AU, or SND, of Sun and NeXT."""

import struct

from pipeline.audio.containers.file_bytes import FileBytes
from pipeline.audio.containers.promise import (
    Finding,
    Samples,
    held,
    require_finished,
    require_nothing_behind,
)

_UNKNOWN_LENGTH = 0xFFFFFFFF


def check_au(file: FileBytes) -> Finding:
    """Hold an AU file against its header, which may leave its length open.

    Raises:
        ContainerError: it was never finished, or more follows than it accounts for.
    """
    endian = ">" if file.at(0, 4) == b".snd" else "<"
    samples = Samples(*struct.unpack(f"{endian}II", file.at(4, 8).ljust(8, b"\0")))
    if samples.length == _UNKNOWN_LENGTH:
        return Finding(file.size)
    require_finished(file, samples)
    require_nothing_behind(file, samples.end)
    return held(file, samples.end)
