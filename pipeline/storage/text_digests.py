"""What small text files contain, quickly enough to be asked before every run."""

import hashlib
import os
from collections.abc import Iterable, Mapping
from contextlib import suppress

import pyarrow as pa

from pipeline.storage.artifacts import Artifact, ArtifactError
from pipeline.storage.folders import FileInfo, Folder, is_uri

# Reading fewer files takes no longer than looking up what they contained.
MANY = 2_000

Status = tuple[int, int, int, int]


def text_digests(folder: Folder, files: Mapping[str, FileInfo], cache: Artifact) -> dict[str, str]:
    """SHA-256 of each file below `folder`, nothing if it cannot be read; on an object store, its ETag.

    Many local files are read once, and again when their status changes: size, times or inode. Of
    these the system sets one by itself, the time of the last change of the status.
    """
    if is_uri(folder.uri):
        return {name: info.version for name, info in files.items()}
    if len(files) < MANY:
        return {name: _sha256(folder, name) for name in files}
    remembered = _Remembered(cache, folder)
    digests = {name: remembered.digest(name) for name in files}
    remembered.keep()
    return digests


class _Remembered:
    """Digests by name and status, in a table of `cache`."""

    def __init__(self, cache: Artifact, folder: Folder) -> None:
        self._folder, self._cache = folder, cache
        self._table = f"texts-{hashlib.sha256(folder.uri.encode()).hexdigest()[:16]}.parquet"
        self._before = dict(self._read())
        self._now: dict[str, tuple[Status, str]] = {}

    def digest(self, name: str) -> str:
        status = _status(f"{self._folder.uri}/{name}")
        if status is None:
            return ""
        known = self._before.get(name)
        digest = known[1] if known and known[0] == status else _sha256(self._folder, name)
        self._now[name] = status, digest
        return digest

    def keep(self) -> None:
        """Write what is known now; a storage that cannot be written is reported elsewhere."""
        if self._now == self._before:
            return
        rows = [(name, *status, digest) for name, (status, digest) in self._now.items()]
        columns = dict(zip(_COLUMNS, zip(*rows, strict=True), strict=True))
        with suppress(OSError, ArtifactError):
            self._cache.write_table(self._table, pa.table(columns))

    def _read(self) -> Iterable[tuple[str, tuple[Status, str]]]:
        with suppress(OSError, ArtifactError, KeyError, pa.ArrowException):
            table = self._cache.read_table(self._table)
            columns = (table[name].to_pylist() for name in _COLUMNS)
            return [
                (name, ((a, b, c, d), text))
                for name, a, b, c, d, text in zip(*columns, strict=True)
            ]
        return []


_COLUMNS = ("name", "num_bytes", "modified_ns", "changed_ns", "inode", "sha256")


def _status(path: str) -> Status | None:
    try:
        status = os.stat(path)  # noqa: PTH116 - a Path takes longer to make than to ask
    except FileNotFoundError:  # since it was listed
        return None
    return status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino


def _sha256(folder: Folder, name: str) -> str:
    content = folder.try_read(name)
    return "" if content is None else hashlib.sha256(content).hexdigest()
