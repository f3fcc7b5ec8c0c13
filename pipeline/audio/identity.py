"""Whether an audio file is still the one that was prepared.

A file is known by its version, which costs no read (size, and modification time or ETag), and by
the SHA-256 of its content, which is computed where the file is read completely anyway. A copy with
other times is the same file.
"""

import hashlib
import io
from dataclasses import dataclass

from pipeline.storage.folders import FileInfo


@dataclass(frozen=True)
class Identity:
    """What is known of a file; an empty string is unknown."""

    version: str = ""
    sha256: str = ""

    def is_of(self, stream: io.RawIOBase, info: FileInfo) -> bool:
        """Whether an opened file is this one; its content is read only if its version differs."""
        if not (self.version or self.sha256) or self.version == str(info):
            return True
        return self.sha256 != "" and self.sha256 == content_sha256(stream)


def content_sha256(stream: io.RawIOBase) -> str:
    """SHA-256 of everything in `stream`, whose position is undefined afterwards."""
    hasher = hashlib.sha256()
    # A larger block than the file is would cost more than the hash.
    block = min(1 << 20, stream.seek(0, io.SEEK_END) + 1)
    stream.seek(0)
    while chunk := stream.read(block):
        hasher.update(chunk)
    return hasher.hexdigest()
