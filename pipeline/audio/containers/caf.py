"""Apple's Core Audio Format."""

import struct

from pipeline.audio.containers.chunks import Chunk, Dialect, chunks, find_end
from pipeline.audio.containers.file_bytes import FileBytes
from pipeline.audio.containers.promise import ContainerError, Finding, Samples, require_equal

_CAF = Dialect(struct.Struct(">4sq"), first=8, alignment=1)
_UNCOMPRESSED = {b"lpcm", b"ulaw", b"alaw"}
_PACKET_TABLE = struct.Struct(">qqii")


def check_caf(file: FileBytes) -> Finding:
    """Hold a CAF file against its header.

    Raises:
        ContainerError: it contradicts itself, was never finished, or leaves its length open.
    """
    found = {chunk.name: chunk for chunk in chunks(file, _CAF, _CAF.first)}
    if b"data" not in found:
        return Finding(file.size)
    _, start, length = found[b"data"]
    if length == -1:
        raise ContainerError("audio does not say its length: its CAF header leaves it open")
    # A count of edits precedes the samples.
    samples = Samples(start + 4, max(0, length - 4))
    finding = find_end(file, _CAF, samples, declared_end=file.size)
    if finding.missing is None and b"desc" in found:
        return finding._replace(num_samples=_num_samples(file, found, samples.length))
    return finding


def _num_samples(file: FileBytes, found: dict[bytes, Chunk], length: int) -> int | None:
    """The number in the table of packets, if there is one.

    Raises:
        ContainerError: description, table and samples contradict each other.
    """
    description = file.at(found[b"desc"].start + 8, 24).ljust(24, b"\0")
    coding, _, packet_bytes, frames, channels, bits = struct.unpack(">4sIIIII", description)
    if coding in _UNCOMPRESSED and frames == 1:
        width = -(-bits // 8)
        if width == 3 and packet_bytes == 4 * channels:
            width = 4
        require_equal("the bytes in a frame are", packet_bytes, channels * width)
    elif packet_bytes == 0 and b"pakt" in found:
        table = file.at(found[b"pakt"].start, found[b"pakt"].length)
        packets, valid, *others = _PACKET_TABLE.unpack_from(table.ljust(_PACKET_TABLE.size, b"\0"))
        sizes = _packet_sizes(table[_PACKET_TABLE.size :], packets)
        require_equal("the bytes of samples are", sum(sizes), length)
        require_equal("the samples are", valid + sum(others), len(sizes) * frames)
        return int(valid)
    return None


def _packet_sizes(table: bytes, num_packets: int) -> list[int]:
    """The sizes in a packet table: seven bits in each byte, the last byte of a size below 128."""
    sizes, size = [], 0
    for byte in table:
        size = size << 7 | byte & 0x7F
        if byte < 0x80:
            sizes.append(size)
            size = 0
    return sizes[: max(0, num_packets)]
