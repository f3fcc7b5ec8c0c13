"""WAV in its four dresses: RIFF, RIFX (big-endian), RF64 (64-bit lengths) and Sony Wave64.

RIFF chunks; EBU Tech 3306 for RF64.
"""

import struct

from pipeline.audio.containers.chunks import Chunk, Dialect, find_end, until
from pipeline.audio.containers.file_bytes import FileBytes
from pipeline.audio.containers.promise import (
    ContainerError,
    Finding,
    Samples,
    held,
)
from pipeline.audio.containers.wave_format import WaveFormat

_RIFF = Dialect(struct.Struct("<4sI"), first=12, alignment=2)
_RIFX = Dialect(struct.Struct(">4sI"), first=12, alignment=2)
_WAVE64 = Dialect(struct.Struct("<16sQ"), first=40, alignment=8, own_bytes=24)

_IN_DS64 = 0xFFFFFFFF
# Encoders that cannot seek back write these for a length that they do not know yet; SoX rounds its
# 0x7FFFF000 down to a multiple of the sample size. libsndfile then reads to the end.
_PLACEHOLDERS = (range(0x7FFF0000, 0x80000000), range(0xFFFF0000, 0x100000000))
_LONGEST = 1 << 62


def check_riff(file: FileBytes) -> Finding:
    """Hold a RIFF, RIFX or RF64 file against its header.

    Raises:
        ContainerError: it contradicts itself, or was never finished.
    """
    magic = file.at(0, 4)
    dialect = _RIFX if magic == b"RIFX" else _RIFF
    found = until(file, dialect, b"data")
    declared_end = 8 + int(dialect.header.unpack(file.at(0, 8).ljust(8, b"\0"))[1])
    if b"data" not in found:
        return held(file, declared_end) if magic != b"RF64" else Finding(file.size)
    _, start, length = found[b"data"]
    if magic == b"RF64" and length == _IN_DS64 and b"ds64" in found:
        size, length = struct.unpack("<QQ", file.at(found[b"ds64"].start, 16).ljust(16, b"\0"))
        declared_end = 8 + size
    elif any(length in placeholder for placeholder in _PLACEHOLDERS):
        return Finding(file.size)
    return _check_samples(file, dialect, found, Samples(start, length), declared_end)


def check_wave64(file: FileBytes) -> Finding:
    """Hold a Sony Wave64 file against its header.

    Raises:
        ContainerError: it contradicts itself, was never finished, or leaves its length open.
    """
    found = until(file, _WAVE64, b"data")
    if b"data" not in found:
        return Finding(file.size)
    _, start, length = found[b"data"]
    if length >= _LONGEST - _WAVE64.own_bytes:
        raise ContainerError("audio does not say its length: its Wave64 header leaves it open")
    declared_end = int.from_bytes(file.at(16, 8), "little")
    return _check_samples(file, _WAVE64, found, Samples(start, length), declared_end)


def _check_samples(
    file: FileBytes,
    dialect: Dialect,
    found: dict[bytes, Chunk],
    samples: Samples,
    declared_end: int,
) -> Finding:
    finding = find_end(file, dialect, samples, declared_end)
    if b"fmt " not in found:
        return finding
    endian = dialect.header.format[0]
    coding = WaveFormat.at(file, found[b"fmt "].start, endian)
    coding.require_supported(is_wave64=dialect is _WAVE64)
    return finding._replace(num_samples=coding.num_samples(samples.length))
