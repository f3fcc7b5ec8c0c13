"""A file's bytes at any position."""

import io

from pipeline.audio.remote_file import Recorded

# One read of this size holds the headers of nearly all files.
_HEAD_BYTES = 4096


class FileBytes:
    """`size` bytes behind a stream that can seek; those at the start are read once."""

    def __init__(self, stream: io.RawIOBase, size: int) -> None:
        self.size = size
        self._stream = stream
        # Reading everything costs little: from a disk, or already fetched.
        self.is_at_hand = not (isinstance(stream, Recorded) and stream.in_parts)
        stream.seek(0)
        self._head = stream.read(_HEAD_BYTES) or b""

    def at(self, position: int, length: int) -> bytes:
        """Up to `length` bytes from `position`; fewer at the end of the file."""
        end = position + length
        if end <= len(self._head) or len(self._head) == self.size:
            return self._head[position:end]
        self._stream.seek(position)
        return self._stream.read(length) or b""
