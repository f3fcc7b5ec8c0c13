"""FLAC: its last frame, against the number of samples in its first block (RFC 9639)."""

from collections.abc import Iterator
from typing import NamedTuple

from pipeline.audio.containers.checksums import crc8
from pipeline.audio.containers.file_bytes import FileBytes
from pipeline.audio.containers.promise import ContainerError, Finding, require_equal
from pipeline.audio.containers.tags import end_before_tags

_TAIL_BYTES = 1 << 16
# libFLAC has read as much or more behind the last sample; what lies further on, it has not reached.
_READ_AHEAD = 1 << 14
_STREAMINFO_BYTES = 34
_LONGEST_HEADER = 16
# By the codes of a frame's header: samples in a frame, or the bytes that say them; rates, likewise.
_BLOCK_SIZES = {
    1: 192,
    **{2 + k: 576 << k for k in range(4)},
    **{8 + k: 256 << k for k in range(8)},
}
_SIZE_BYTES = {6: 1, 7: 2}
_RATES_HZ = dict(
    enumerate((88200, 176400, 192000, 8000, 16000, 22050, 24000, 32000, 44100, 48000, 96000), 1)
)
_RATE_BYTES = {12: 1, 13: 2, 14: 2}


class Frame(NamedTuple):
    """What a frame's header says: the part that all frames share, and the samples up to its end."""

    constants: tuple[int, int, int]
    end: int

    @property
    def rate_hz(self) -> int | None:
        return _RATES_HZ.get(self.constants[1])


def check_flac(file: FileBytes) -> Finding:
    """Hold the last frame of a FLAC file against its first block.

    Raises:
        ContainerError: it holds more samples than its header says, at another rate, or a second file
            follows.
    """
    info = file.at(8, _STREAMINFO_BYTES)
    block_size, numbers = int.from_bytes(info[:2], "big"), int.from_bytes(info[10:18], "big")
    rate, promised = numbers >> 44, numbers & (1 << 36) - 1
    end = end_before_tags(file)
    first = _frame(file.at(_start_of_frames(file), _LONGEST_HEADER), block_size)
    if first is None or not promised:
        return Finding(end)
    if first.rate_hz is not None:
        require_equal("the rate in Hz is", rate, first.rate_hz)
    start = max(4, end - _TAIL_BYTES)
    tail = file.at(start, end - start)
    if b"fLaC\0" in tail[-_READ_AHEAD:]:
        raise ContainerError("audio holds more than one stream: a FLAC file follows another in it")
    ends = _ends_of_frames(tail, first, block_size)
    last = next(ends, promised)
    # Bytes of the last frame may look like a header.
    if last == promised or promised in ends:
        return Finding(end)
    if last < promised:
        return Finding(end, f"{last} samples of the {promised} its header promises")
    raise ContainerError(
        f"audio does not match its header: {last} samples where it promises {promised}"
    )


def _start_of_frames(file: FileBytes) -> int:
    """Behind the blocks of metadata, the last of which is marked."""
    position, is_last = 4, False
    while not is_last and len(header := file.at(position, 4)) == 4:
        is_last = bool(header[0] & 0x80)
        position += 4 + int.from_bytes(header[1:], "big")
    return position


def _ends_of_frames(tail: bytes, first: Frame, block_size: int) -> Iterator[int]:
    """The number of samples up to the end of each frame that begins in `tail`, from the last on."""
    position = len(tail)
    sync = bytes((0xFF, first.constants[0]))
    while (position := tail.rfind(sync, 0, position)) >= 0:
        frame = _frame(tail[position : position + _LONGEST_HEADER], block_size)
        if frame is not None and frame.constants == first.constants:
            yield frame.end


def _frame(header: bytes, block_size: int) -> Frame | None:
    """What a frame's header says; None if it is none."""
    if len(header) < 6 or header[0] != 0xFF or header[1] not in {0xF8, 0xF9}:
        return None
    size_code, rate_code = header[2] >> 4, header[2] & 15
    number, position = _coded_number(header)
    size_bytes = _SIZE_BYTES.get(size_code, 0)
    end = position + size_bytes + _RATE_BYTES.get(rate_code, 0)
    if not position or end >= len(header) or crc8(header[:end]) != header[end]:
        return None
    size = _BLOCK_SIZES.get(size_code, 0)
    if size_bytes:
        size = 1 + int.from_bytes(header[position : position + size_bytes], "big")
    is_variable = header[1] & 1
    before = number if is_variable else number * block_size
    return Frame((header[1], rate_code, header[3] & 15), before + size)


def _coded_number(header: bytes) -> tuple[int, int]:
    """The frame's number, written as UTF-8 writes a character, and its end; 0 if it is broken."""
    code = header[4:11]
    if code[0] < 0x80:
        return code[0], 5
    length = 8 - (code[0] ^ 0xFF).bit_length()
    if not 2 <= length <= len(code) or any(byte & 0xC0 != 0x80 for byte in code[1:length]):
        return 0, 0
    number = code[0] & (0x7F >> length)
    for byte in code[1:length]:
        number = number << 6 | byte & 0x3F
    return number, 4 + length
