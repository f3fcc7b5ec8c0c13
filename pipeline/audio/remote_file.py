"""A file on an object store as libsndfile reads it: through callbacks that must not raise."""

import io
from typing import IO, Any

# Up to this size, one request for the complete file is faster than several for parts.
ONE_REQUEST_BYTES = 4 << 20
# A seek in FLAC or Ogg searches about ten positions, each of which costs a block.
BLOCK_BYTES = 512 << 10
KEPT_BLOCKS = 16


def open_remote(filesystem: Any, path: str, size: int | None) -> "Recorded":
    """Bytes of `path` on an fsspec filesystem; they can seek, and at most 8 MiB stay in memory.

    If the size is unknown, the storage cannot seek, and the complete file stays in memory.
    """
    if size is None or size <= ONE_REQUEST_BYTES:
        return Recorded(io.BytesIO(filesystem.cat_file(path)))
    file: IO[bytes] = filesystem.open(
        path,
        "rb",
        block_size=BLOCK_BYTES,
        cache_type="blockcache",
        cache_options={"maxblocks": KEPT_BLOCKS},
    )
    return Recorded(file, in_parts=True)


class Recorded(io.RawIOBase):
    """`file`, which reports its end after an exception and keeps the exception in `failure`.

    libsndfile takes a failed callback for the end of the audio, so the caller must look there.
    """

    def __init__(self, file: IO[bytes], *, in_parts: bool = False) -> None:
        """Take the file, and whether it is fetched in parts, as they are read."""
        super().__init__()
        self._file = file
        self.in_parts = in_parts
        self.failure: Exception | None = None

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._file.tell()

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        # A header that lies may lead libsndfile before the start.
        return self._file.seek(max(0, offset) if whence == io.SEEK_SET else offset, whence)

    def readinto(self, buffer: Any) -> int:
        target = memoryview(buffer)
        try:
            data = self._file.read(len(target))
        except Exception as error:  # noqa: BLE001 - each storage has errors of its own
            self.failure = error
            return 0
        target[: len(data)] = data
        return len(data)
