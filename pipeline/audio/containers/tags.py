"""Tags before and behind the audio, which any program may have added to any file."""

import io
from typing import Any

from pipeline.audio.containers.file_bytes import FileBytes

# Behind the audio: zeros up to a block of a disk or tape.
_MOST_PADDING = 1 << 16


def start_behind_tags(file: FileBytes) -> int:
    """Where the audio begins, behind any number of ID3v2 tags."""
    position = 0
    while (head := file.at(position, 10))[:3] == b"ID3" and len(head) == 10:
        # Seven bits in each byte; the tag's own ten bytes, and those of a footer, are not counted.
        length = sum((byte & 0x7F) << 7 * index for index, byte in enumerate(head[:5:-1]))
        position += 10 + length + 10 * bool(head[5] & 0x10)
    return position


def end_before_tags(file: FileBytes) -> int:
    """Where the tags at the end of the file begin: ID3v1, APEv2 and Lyrics3."""
    end = file.size
    while 0 < (length := _tag_before(file, end)) <= end:
        end -= length
    return end


def is_padding(file: FileBytes, position: int) -> bool:
    """Whether only zeros and tags follow from `position` on."""
    if position >= file.size:
        return True
    length = end_before_tags(file) - position
    return length <= 0 or (length <= _MOST_PADDING and not any(file.at(position, length)))


def _tag_before(file: FileBytes, end: int) -> int:
    """The length of the tag that ends at `end`; 0 where there is none."""
    if end >= 128 and file.at(end - 128, 3) == b"TAG":
        return 128
    footer = file.at(max(0, end - 32), min(32, end))
    if footer.startswith(b"APETAGEX"):
        has_header = footer[23] & 0x80
        return int.from_bytes(footer[12:16], "little") + 32 * bool(has_header)
    if footer.endswith(b"LYRICS200") and footer[-15:-9].isdigit():
        return int(footer[-15:-9]) + 15
    return 0


class WithoutTags(io.RawIOBase):
    """The bytes of `stream` from `start` to `end`.

    Of tags before a WAV file's header libsndfile reads too little audio, and those behind the samples it
    takes for samples in some containers.
    """

    def __init__(self, stream: io.RawIOBase, start: int, end: int) -> None:
        super().__init__()
        self._stream = stream
        self._start = start
        self._end = end

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._stream.tell() - self._start

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        if whence == io.SEEK_CUR:
            return self._stream.seek(offset, whence) - self._start
        base = self._start if whence == io.SEEK_SET else self._end
        return self._stream.seek(max(0, base + offset)) - self._start

    def readinto(self, buffer: Any) -> int | None:
        rest = max(0, self._end - self._stream.tell())
        return self._stream.readinto(memoryview(buffer)[:rest])
