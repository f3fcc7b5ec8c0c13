"""Whether a sound file ends before its own header says it does.

libsndfile reads a WAV or Ogg file that was cut off as a shorter one, without an error. FLAC, and
MP3 with a frame count, fail when they are read.

WAV: RIFF chunks, and EBU Tech 3306 (RF64) for the 64-bit sizes. Ogg: RFC 3533.
"""

import io
import struct

# Encoders that cannot seek back write these for a length that they do not know yet; SoX rounds its
# 0x7FFFF000 down to a multiple of the sample size. libsndfile then reads to the end.
_PLACEHOLDERS = (range(0x7FFF0000, 0x80000000), range(0xFFFF0000, 0x100000000))

_LARGEST_OGG_PAGE = 65_307
_OGG_HEADER = 27
_OGG_LAST_PAGE = 0x04
_LARGEST_MP3_FRAME = 2881


def what_is_missing(file: io.RawIOBase, size: int) -> str | None:
    """What a WAV or Ogg file of `size` bytes lacks, in words; None if it is complete.

    Files of other formats count as complete. The file's position is undefined afterwards.
    """
    file.seek(0)
    magic = _read(file, 4)
    if magic in {b"RIFF", b"RIFX", b"RF64"}:
        promised = _end_of_samples(file, size, magic)
        if promised > size:
            return f"{size} bytes of the {promised} its header promises"
    if magic == b"OggS" and not _ends_with_last_page(file, size):
        return "the last page of its Ogg stream is missing"
    return None


def _end_of_samples(file: io.RawIOBase, size: int, magic: bytes) -> int:
    """Where the `data` chunk ends according to its header; 0 where that does not say."""
    chunk_header = ">4sI" if magic == b"RIFX" else "<4sI"
    position, long_length = 12, 0
    while position + 8 <= size:
        file.seek(position)
        name, length = struct.unpack(chunk_header, _read(file, 8))
        position += 8
        if name == b"ds64" and position + 16 <= size:
            _, long_length = struct.unpack("<QQ", _read(file, 16))
        if name == b"data" and magic == b"RF64" and length == 0xFFFFFFFF:
            return position + int(long_length)
        if name == b"data":
            unknown = any(length in placeholder for placeholder in _PLACEHOLDERS)
            return 0 if unknown else position + int(length)
        position += length + length % 2
    return 0


def _ends_with_last_page(file: io.RawIOBase, size: int) -> bool:
    """Whether the last page is complete and marked as the last."""
    file.seek(max(0, size - _LARGEST_OGG_PAGE))
    tail = _read(file, _LARGEST_OGG_PAGE)
    page = tail[max(0, tail.rfind(b"OggS")) :]
    if len(page) < _OGG_HEADER or not page[5] & _OGG_LAST_PAGE:
        return False
    num_segments = page[_OGG_HEADER - 1]
    lengths = page[_OGG_HEADER : _OGG_HEADER + num_segments]
    return len(page) >= _OGG_HEADER + num_segments + sum(lengths)


def mp3_counts_its_frames(file: io.RawIOBase) -> bool:
    """Whether an MP3 begins with a Xing, LAME or Fraunhofer frame that counts the others.

    Without it decoders guess the length, and the end of the audio could be lost unnoticed.
    """
    file.seek(0)
    head = _read(file, 10)
    start = 0
    if head[:3] == b"ID3":
        # Seven bits in each byte; the tag's own ten bytes are not counted.
        start = 10 + sum((byte & 0x7F) << 7 * index for index, byte in enumerate(head[:5:-1]))
    file.seek(start)
    first_frame = _read(file, _LARGEST_MP3_FRAME)
    return any(name in first_frame for name in (b"Xing", b"Info", b"VBRI"))


def _read(file: io.RawIOBase, size: int) -> bytes:
    """Up to `size` bytes; fewer at the end of the file."""
    return file.read(size) or b""
