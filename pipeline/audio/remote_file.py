"""A file of an object store as libsndfile reads it: through callbacks that cannot raise."""

import io
from typing import IO, Any

# Up to this size one request for everything beats several for parts.
WHOLE_BYTES = 4 << 20
# A seek in FLAC or Ogg is a search of some ten places, each of which costs a block.
BLOCK_BYTES = 512 << 10
KEPT_BLOCKS = 16


def open_remote(filesystem: Any, path: str, size: int | None) -> IO[bytes]:
    """Bytes of `path` on an fsspec filesystem that can seek, at most 8 MiB of them held at a time.

    Where the size is unknown the storage cannot seek, and everything is held.
    """
    if size is None or size <= WHOLE_BYTES:
        return io.BytesIO(filesystem.cat_file(path))
    file: IO[bytes] = filesystem.open(
        path,
        "rb",
        block_size=BLOCK_BYTES,
        cache_type="blockcache",
        cache_options={"maxblocks": KEPT_BLOCKS},
    )
    return file


class Recorded(io.RawIOBase):
    """`file`, which after an exception says that it has ended, and keeps the exception.

    libsndfile would take what a callback could not read for the end of the audio.
    """

    def __init__(self, file: IO[bytes]) -> None:
        super().__init__()
        self._file = file
        self.failure: Exception | None = None

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._file.tell()

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        return self._file.seek(offset, whence)

    def readinto(self, buffer: Any) -> int:
        target = memoryview(buffer)
        try:
            data = self._file.read(len(target))
        except Exception as error:  # noqa: BLE001 - each storage has errors of its own
            self.failure = error
            return 0
        target[: len(data)] = data
        return len(data)
