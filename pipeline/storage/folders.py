"""A folder, local or on any fsspec storage.

`s3://` is our own `ObjectStore`; fsspec's own entry for it stays as it is, for other code in the
same process.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import IO

from fsspec import AbstractFileSystem
from fsspec.core import url_to_fs

S3 = "s3://"


def filesystem_and_path(uri: str) -> tuple[AbstractFileSystem, str]:
    """The filesystem that holds a local path or a URI, and the path on that filesystem.

    Raises:
        ValueError, ImportError: fsspec knows no such scheme, or its package is not installed.
    """
    if uri.startswith(S3):
        from pipeline.storage.s3 import ObjectStore  # botocore takes a second to import

        return ObjectStore(), uri.removeprefix(S3).rstrip("/")
    filesystem, path = url_to_fs(uri)
    return filesystem, str(path)


@dataclass(frozen=True)
class Folder:
    """`uri` is a local absolute path or a URI (`s3://…`)."""

    uri: str

    @classmethod
    def at(cls, uri: str) -> "Folder":
        """A folder by path or URI; a local path is made absolute, for workers with another folder."""
        return cls(uri.rstrip("/") if "://" in uri else str(Path(uri).resolve()))

    @classmethod
    def around(cls, uri: str) -> tuple["Folder", str]:
        """The folder that contains a file, and the file's name."""
        folder, _, name = cls.at(uri).uri.rpartition("/")
        return cls(folder), name

    @property
    def filesystem(self) -> AbstractFileSystem:
        return filesystem_and_path(self.uri)[0]

    def is_folder(self) -> bool:
        return bool(self.filesystem.isdir(self._path()))

    def folders(self) -> list[str]:
        """The names of the folders directly below, sorted; none if this is not a folder."""
        path = self._path()
        if not self.filesystem.isdir(path):
            return []
        infos = self.filesystem.ls(path, detail=True)
        return sorted(
            info["name"].rstrip("/").rpartition("/")[2]
            for info in infos
            if info["type"] == "directory"
        )

    def files(self, name: str = "") -> dict[str, int]:
        """Every file below the folder `name`: relative name to size in bytes, sorted."""
        path = self._path(name)
        infos = self.filesystem.find(path, detail=True) if self.filesystem.isdir(path) else {}
        return {full[len(path) + 1 :]: info["size"] for full, info in sorted(infos.items())}

    def size(self, name: str) -> int | None:
        """A file's size in bytes; None if there is no such file."""
        path = self._path(name)
        return self.filesystem.size(path) if self.filesystem.isfile(path) else None

    def read(self, name: str) -> bytes:
        content: bytes = self.filesystem.cat_file(self._path(name))
        return content

    def open(self, name: str) -> IO[bytes]:
        file: IO[bytes] = self.filesystem.open(self._path(name), "rb")
        return file

    def locate(self, path: str) -> str:
        """The address of `path`, which is relative to this folder unless it is absolute or a URI."""
        return path if "://" in path or path.startswith("/") else f"{self.uri}/{path}"

    def _path(self, name: str = "") -> str:
        path = filesystem_and_path(self.uri)[1]
        return f"{path}/{name}" if name else path
