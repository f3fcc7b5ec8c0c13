"""AIFF and AIFF-C."""

import struct

from pipeline.audio.containers.chunks import Dialect, chunks, find_end
from pipeline.audio.containers.file_bytes import FileBytes
from pipeline.audio.containers.promise import ContainerError, Finding, Samples, require_equal

_AIFF = Dialect(struct.Struct(">4sI"), first=12, alignment=2)
# SoX writes this for a length that it does not know, rounded down to a multiple of the sample size;
# libsndfile then reads to the end.
_PLACEHOLDERS = range(0x7EFF0000, 0x7F000009)
# Of uncompressed samples and those of one byte: bits a sample in COMM are those in the file.
_LINEAR = {b"NONE", b"sowt", b"twos", b"in24", b"in32", b"fl32", b"FL32", b"fl64", b"FL64"}
_COMPANDED = {b"ulaw", b"ULAW", b"alaw", b"ALAW"}


def check_aiff(file: FileBytes) -> Finding | None:
    """Hold an AIFF file against its header; there is no finding for other forms.

    Raises:
        ContainerError: it contradicts itself, or was never finished.
    """
    if file.at(8, 4) not in {b"AIFF", b"AIFC"}:
        return None
    found = {chunk.name: chunk for chunk in chunks(file, _AIFF, _AIFF.first)}
    if b"SSND" not in found:
        return Finding(file.size)
    _, start, length = found[b"SSND"]
    if length in _PLACEHOLDERS:
        return Finding(file.size)
    offset = int.from_bytes(file.at(start, 4), "big")
    # Offset and block size precede the samples; a program that streams writes a length of 0.
    samples = Samples(start + 8 + offset, max(0, length - 8 - offset))
    declared_end = 8 + int.from_bytes(file.at(4, 4), "big")
    finding = find_end(file, _AIFF, samples, declared_end)
    if finding.missing is None and b"COMM" in found:
        _require_consistent(file, found[b"COMM"].start, samples.length)
    return finding


def _require_consistent(file: FileBytes, start: int, length: int) -> None:
    """Refuse uncompressed samples of another number than the header says."""
    channels, num_frames, bits = struct.unpack(">hIh", file.at(start, 8).ljust(8, b"\0"))
    coding = b"NONE" if file.at(8, 4) == b"AIFF" else file.at(start + 18, 4)
    if coding == b"DWVW":
        raise ContainerError("coding is not supported: DWVW in AIFF; convert it to WAV or FLAC")
    if coding in _LINEAR:
        _require_bytes(num_frames * channels * -(-bits // 8), length)
    if coding in _COMPANDED:
        _require_bytes(num_frames * channels, length)


def _require_bytes(promised: int, found: int) -> None:
    # Some programs, Python's aifc among them, count the padding of an odd number.
    if found != promised + promised % 2:
        require_equal("bytes of samples are", promised, found)
