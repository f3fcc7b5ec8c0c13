"""Ogg (RFC 3533): every page that is read is held against its checksum and its number."""

import io
import struct
from typing import Any, NamedTuple

from pipeline.audio.containers.checksums import crc32_of_ogg
from pipeline.audio.containers.file_bytes import FileBytes
from pipeline.audio.containers.promise import ContainerError, Finding
from pipeline.audio.containers.tags import end_before_tags

_LARGEST_PAGE = 65_307
_HEADER = struct.Struct("<4sBBqIIIB")
_FIRST, _LAST = 0x02, 0x04
_UNREADABLE = {
    b"\x7fFLAC": "FLAC in Ogg; convert it to plain FLAC",
    b"Speex": "Speex; convert it to WAV or FLAC",
    b"\x80theora": "Theora; extract its audio",
    b"fishead": "a skeleton of several streams; extract its audio",
}
_DAMAGED = "audio is damaged: the Ogg page at byte"
_CHECKSUM = slice(22, 26)


class Page(NamedTuple):
    flags: int
    serial: int
    number: int
    checksum: int
    length: int


def check_ogg(file: FileBytes) -> Finding:
    """Look for the last page of an Ogg file, complete and marked as the last.

    Raises:
        ContainerError: libsndfile does not read what is in it.
    """
    first = file.at(0, 64)
    payload = first[28:] if len(first) > 28 else b""
    for name, what in _UNREADABLE.items():
        if payload.startswith(name):
            raise ContainerError(f"not readable as audio: {what}")
    end = end_before_tags(file)
    start = max(0, end - _LARGEST_PAGE)
    tail = file.at(start, end - start)
    last = tail[max(0, tail.rfind(b"OggS\0")) :]
    page = _page(last)
    if page is None or not page.flags & _LAST or len(last) < page.length:
        return Finding(end, "the last page of its Ogg stream is missing")
    return Finding(end)


class OggPages(io.RawIOBase):
    """`stream`, which looks at each page that is read through it; `damage` says what it found."""

    def __init__(self, stream: io.RawIOBase, size: int, *, is_complete: bool) -> None:
        super().__init__()
        self.damage: str | None = None
        self._stream = stream
        self._size = size
        self._is_complete = is_complete
        self._serial: int | None = None
        self._restart(0)

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._stream.tell()

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        return self._stream.seek(offset, whence)

    def readinto(self, buffer: Any) -> int:
        position = self._stream.tell()
        count = self._stream.readinto(buffer) or 0
        if position != self._position + len(self._unread):
            self._restart(position)
        self._unread += memoryview(buffer)[:count]
        if self.damage is None:
            self.damage = self._look()
        return count

    def _restart(self, position: int) -> None:
        """Pages are found from `position` on, perhaps in the middle of one."""
        self._position = position  # of `_unread` in the file
        self._unread = bytearray()
        self._number: int | None = None
        self._is_aligned = position == 0

    def _look(self) -> str | None:
        """What is wrong with the complete pages among the unread bytes, which are then read."""
        if not self._is_aligned:
            found = self._unread.find(b"OggS\0")
            if found < 0:
                return None
            self._take(found)
            self._is_aligned = True
        while len(self._unread) >= _HEADER.size:
            page = _page(self._unread)
            if page is None:
                return f"{_DAMAGED} {self._position} does not begin as one"
            if len(self._unread) < page.length:
                ends = self._position + page.length <= self._size or not self._is_complete
                return None if ends else f"{_DAMAGED} {self._position} ends beyond the file"
            damage = self._damage_of(page)
            if damage is not None:
                return damage
            self._take(page.length)
        return None

    def _take(self, length: int) -> None:
        del self._unread[:length]
        self._position += length

    def _damage_of(self, page: Page) -> str | None:
        where = f"Ogg page {page.number} at byte {self._position}"
        data = self._unread[: page.length]
        data[_CHECKSUM] = bytes(4)
        if crc32_of_ogg(data) != page.checksum:
            return f"audio is damaged: {where} does not match its checksum"
        end = self._position + page.length
        is_another = page.flags & _FIRST and self._position > 0
        if is_another or self._serial not in {None, page.serial}:
            return f"audio holds more than one stream: {where} belongs to another"
        if page.flags & _LAST and end < self._size:
            return f"audio holds more than one stream: the first ends at byte {end} of {self._size}"
        expected = None if self._number is None else (self._number + 1) & 0xFFFFFFFF
        if expected not in {None, page.number}:
            return f"audio is damaged: {where} should be page {expected}"
        self._serial, self._number = page.serial, page.number
        return None


def _page(data: bytes | bytearray) -> Page | None:
    """The page that begins `data`, whose bytes may be incomplete; None if none does."""
    if len(data) < _HEADER.size:
        return None
    magic, version, flags, _, serial, number, checksum, num_segments = _HEADER.unpack_from(data)
    if magic != b"OggS" or version:
        return None
    lengths = data[_HEADER.size : _HEADER.size + num_segments]
    length = _HEADER.size + num_segments + sum(lengths)
    return Page(flags, serial, number, checksum, length)
