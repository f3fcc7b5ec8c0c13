"""A folder, local or on any fsspec storage, and the files below it.

`s3://` is our own `ObjectStore`; fsspec's own entry for it stays as it is, for other code in the
same process.
"""

import errno
import os
import re
import stat
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from fsspec import AbstractFileSystem, get_filesystem_class
from fsspec.implementations.local import LocalFileSystem

from pipeline.storage.failures import StorageError, may_recover
from pipeline.storage.local_tree import LocalTree

S3 = "s3://"
_FILE = "file://"
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")
# Nothing can be at such a path, now or later.
NOWHERE = {errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENAMETOOLONG}
# Why `Folder.try_read` reads nothing.
CANNOT_BE_READ = "the file cannot be read: there is no permission, or it has disappeared"
# What filesystems call the mark by which a file's versions differ.
_VERSIONS = ("ETag", "etag", "md5Hash", "mtime", "LastModified", "updated", "created")


class AddressError(ValueError):
    """An address that no filesystem here can take; the message says why."""


@dataclass(frozen=True, slots=True)
class FileInfo:
    """A file's size, and a mark that changes when it is overwritten.

    `version` is the modification time in nanoseconds (local) or the ETag (S3); other storages have
    marks of their own, or none.
    """

    num_bytes: int
    version: str

    def __str__(self) -> str:
        return f"{self.num_bytes} {self.version}"

    @classmethod
    def of(cls, status: os.stat_result) -> "FileInfo":
        return cls(status.st_size, str(status.st_mtime_ns))

    @classmethod
    def remote(cls, info: dict[str, Any]) -> "FileInfo":
        """From what an fsspec filesystem says; an unknown size counts as 0."""
        version = next((info[key] for key in _VERSIONS if info.get(key)), "")
        return cls(int(info["size"] or 0), str(version).strip('"'))


@dataclass(frozen=True)
class Listing:
    """What is below a folder, by relative name: the files, sorted, and what is unusable.

    `unusable` holds, with a reason, what should have been a file or folder: broken links, folders
    that cannot be read (the name of the listed one is empty), and what is neither file nor folder.
    """

    files: dict[str, FileInfo]
    unusable: dict[str, str] = field(default_factory=dict)


def is_uri(path: str) -> bool:
    """Whether `path` starts with a scheme; what has `://` further on is a local path."""
    return _SCHEME.match(path) is not None


def printable(name: str) -> str:
    r"""`name` as tables, JSON and consoles can take it: a byte that is not UTF-8 becomes `\xff`."""
    # Python reads such a byte as U+DCFF.
    return name.encode(errors="backslashreplace").decode().replace("\\udc", "\\x")


def filesystem_and_path(uri: str) -> tuple[AbstractFileSystem, str]:
    """The filesystem that holds a local path or a URI, and the path on that filesystem.

    A path is taken as it is: `~`, `::`, `*` and the like mean themselves.

    Raises:
        AddressError: fsspec knows no such scheme, its package is not installed, or an address does
            not suffice to open it.
        OSError: the storage cannot be reached.
    """
    if uri.startswith(S3):
        from pipeline.storage.s3 import ObjectStore  # botocore takes a second to import

        return ObjectStore(), uri.removeprefix(S3).rstrip("/")
    if not is_uri(uri) or uri.startswith(_FILE):
        return LocalFileSystem(), str(Path(uri.removeprefix(_FILE)).absolute())
    scheme = uri.partition("://")[0]
    try:
        kind = get_filesystem_class(scheme)
        # fsspec's own `url_to_fs` would take `::` for the start of another address.
        return kind(**kind._get_kwargs_from_urls(uri)), str(kind._strip_protocol(uri))  # noqa: SLF001
    except OSError:
        raise
    except Exception as error:
        raise AddressError(f"'{uri}' has the scheme {scheme}://, which fails: {error}") from error


@dataclass(frozen=True)
class Folder:
    """`uri` is a local absolute path or a URI (`s3://…`)."""

    uri: str

    @classmethod
    def at(cls, uri: str) -> "Folder":
        """A folder by path or URI; a local path is made absolute, for workers with another folder.

        Raises:
            AddressError: the path holds a NUL.
        """
        if is_uri(uri) and not uri.startswith(_FILE):
            scheme, _, path = uri.partition("://")
            return cls(f"{scheme}://{path.rstrip('/')}")
        _require_no_nul(uri)
        return cls(os.path.realpath(uri.removeprefix(_FILE)))

    @classmethod
    def around(cls, uri: str) -> tuple["Folder", str]:
        """The folder that contains a file, and the file's name.

        The name of a link is kept, and so is its folder: others may belong beside it.

        Raises:
            AddressError: the path holds a NUL.
        """
        _require_no_nul(uri)
        scheme = match.group() if (match := _SCHEME.match(uri)) else ""
        folder, slash, name = uri.removeprefix(scheme).rstrip("/").rpartition("/")
        return cls.at(f"{scheme}{folder or slash or '.' * (not scheme)}"), name

    @property
    def filesystem(self) -> AbstractFileSystem:
        return filesystem_and_path(self.uri)[0]

    def is_folder(self) -> bool:
        """Whether this is a folder, as far as the storage can tell."""
        try:
            return bool(self.filesystem.isdir(self._path()))
        except (OSError, AddressError):
            return False

    def folders(self) -> list[str]:
        """The names of the folders directly below, sorted; none if this is not a folder."""
        path = self._path()
        if not self.filesystem.isdir(path):
            return []
        if self._is_local:
            with os.scandir(path) as entries:
                return sorted(entry.name for entry in entries if _is_folder(entry))
        infos = self.filesystem.ls(path, detail=True)
        return sorted(
            info["name"].rstrip("/").rpartition("/")[2]
            for info in infos
            if info["type"] == "directory"
        )

    def files(self, name: str = "") -> dict[str, FileInfo]:
        """Every file below the folder `name`: relative name to size and version, sorted."""
        return self.listing(name).files

    def listing(self, name: str = "") -> Listing:
        """What is below the folder `name`; links are followed, but never into a loop."""
        path = self._path(name)
        if self._is_local:
            tree = LocalTree(path)
            infos = {name: FileInfo.of(status) for name, status in tree.files()}
            return Listing({name: infos[name] for name in sorted(infos)}, tree.unusable)
        if not self.filesystem.isdir(path):
            return Listing({})
        found = self.filesystem.find(path, detail=True)
        # An object store's key that ends in a slash stands for a folder.
        infos = {full[len(path) + 1 :]: FileInfo.remote(found[full]) for full in sorted(found)}
        return Listing({name: info for name, info in infos.items() if not name.endswith("/")})

    def info(self, name: str) -> FileInfo | None:
        """A file's size and version; None if there is no such file.

        Raises:
            OSError: the storage cannot tell.
        """
        return file_info(self.address(name))

    def read(self, name: str) -> bytes:
        content: bytes = self.filesystem.cat_file(self._path(name))
        return content

    def try_read(self, name: str) -> bytes | None:
        """The content of a file; None if it has disappeared or may not be read.

        Raises:
            OSError: the storage failed, and may recover.
        """
        try:
            return self.read(name)
        except OSError as error:
            if may_recover(error):
                raise
            return None

    def open(self, name: str) -> IO[bytes]:
        file: IO[bytes] = self.filesystem.open(self._path(name), "rb")
        return file

    def locate(self, path: str) -> str:
        """The address of `path`, which is relative to this folder unless it is absolute or a URI."""
        return path if is_uri(path) or path.startswith("/") else self.address(path)

    def address(self, name: str) -> str:
        """The address of a file or folder that was listed here, whatever its name."""
        return _join(self.uri, name)

    @property
    def _is_local(self) -> bool:
        return not is_uri(self.uri)

    def _path(self, name: str = "") -> str:
        path = filesystem_and_path(self.uri)[1]
        return _join(path, name) if name else path


def file_info(address: str) -> FileInfo | None:
    """What `Folder.info` says of a file."""
    if not is_uri(address):
        return _local_info(address)
    filesystem, path = filesystem_and_path(address)
    try:
        info = filesystem.info(path)
    except FileNotFoundError as error:
        if may_recover(error):
            raise StorageError(f"{address} cannot be reached: {error.__cause__}") from error
        return None
    return FileInfo.remote(info) if info["type"] == "file" else None


def _local_info(path: str) -> FileInfo | None:
    try:
        status = os.stat(path)  # noqa: PTH116 - a Path takes longer to make than to ask
    except OSError as error:
        if error.errno in NOWHERE:
            return None
        raise
    except ValueError:  # a NUL
        return None
    return FileInfo.of(status) if stat.S_ISREG(status.st_mode) else None


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself, or to where nobody may look
        return False


def _require_no_nul(path: str) -> None:
    if "\0" in path:
        raise AddressError(f"{path!r} is not a path: it holds a NUL")


def _join(folder: str, name: str) -> str:
    return f"{folder}{'/' * (not folder.endswith('/'))}{name}"
