"""Files made of chunks, each with a name and a length: RIFF, AIFF, Wave64, CAF."""

import struct
from collections.abc import Iterator
from typing import NamedTuple

from pipeline.audio.containers.file_bytes import FileBytes
from pipeline.audio.containers.promise import (
    ContainerError,
    Finding,
    Samples,
    held,
    require_finished,
    unaccounted,
)
from pipeline.audio.containers.tags import is_padding


class Dialect(NamedTuple):
    """How a family of files writes chunks."""

    header: struct.Struct  # a name and a length
    first: int  # where the first chunk begins
    alignment: int  # of each chunk's end, in bytes
    own_bytes: int = 0  # of the header, where the length counts it


class Chunk(NamedTuple):
    name: bytes
    start: int
    length: int


def chunks(file: FileBytes, dialect: Dialect, position: int) -> Iterator[Chunk]:
    """The chunks from `position` on, up to the first that has no name or no end."""
    header, _, alignment, own_bytes = dialect
    while position + header.size <= file.size:
        name, length = header.unpack(file.at(position, header.size))
        length -= own_bytes
        if not name[:4].isascii() or not name[:4].decode().isprintable():
            return
        start = position + header.size
        yield Chunk(name[:4], start, length)
        if length < 0:
            return
        position = start + length + -length % alignment


def until(file: FileBytes, dialect: Dialect, name: bytes) -> dict[bytes, Chunk]:
    """The chunks by name, up to the first of that name; none of that name if there is none."""
    found: dict[bytes, Chunk] = {}
    for chunk in chunks(file, dialect, dialect.first):
        found.setdefault(chunk.name, chunk)
        if chunk.name == name:
            break
    return found


def find_end(file: FileBytes, dialect: Dialect, samples: Samples, declared_end: int) -> Finding:
    """The end of the samples and of the chunks behind them; `declared_end` is the header's.

    Raises:
        ContainerError: the samples are unfinished, or bytes follow that belong to no chunk.
    """
    if samples.end > file.size:
        return held(file, samples.end)
    # Some programs forget the padding.
    padding = -samples.length % dialect.alignment
    limit = max(declared_end, file.size) + dialect.alignment - 1
    starts = (samples.end, samples.end + padding)
    end = max(_end_of_chunks(file, dialect, start, limit) for start in starts)
    if end - file.size >= dialect.alignment:
        return held(file, end)
    hidden = padding > 1 and any(file.at(samples.end, padding))
    if hidden or min(declared_end, file.size) - end > 1 or not is_padding(file, end):
        require_finished(file, samples)
        raise unaccounted(file, samples.end if hidden else end)
    return Finding(end)


def _end_of_chunks(file: FileBytes, dialect: Dialect, position: int, limit: int) -> int:
    """Where the chunks that follow each other from `position` on end; what looks like one may not.

    Tags and other files end beyond `limit` if they are read as a chunk.
    """
    for chunk in chunks(file, dialect, position):
        if chunk.name == file.at(0, 4):
            raise ContainerError(
                f"audio holds more than one stream: another file begins at byte {position}"
            )
        end = chunk.start + chunk.length + -chunk.length % dialect.alignment
        if not position < end <= limit:
            break
        position = end
    return position
