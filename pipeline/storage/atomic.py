"""Files and folders that appear under their name when they are complete, or not at all."""

import errno
import os
import shutil
import tempfile
import time
import uuid
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import IO

from fsspec import AbstractFileSystem

# This many parts of one file are uploaded at once.
UPLOADED_PARTS = 8
ABANDONED_SECONDS = 600.0


def is_local(filesystem: AbstractFileSystem) -> bool:
    protocol = filesystem.protocol
    return "file" in ((protocol,) if isinstance(protocol, str) else protocol)


def aside_of(path: Path) -> Path:
    """Another name beside `path`, for a file or folder on its way to or from `path`."""
    return path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.aside")


def is_aside(name: str) -> bool:
    """Whether this is such a name, or that of a file in such a folder."""
    return any(part.startswith(".") and part.endswith(".aside") for part in name.split("/"))


def delete_abandoned(folder: Path) -> None:
    """Delete what killed writers left below `folder`.

    What changed in the last ten minutes may belong to a running writer.
    """
    for path in list(folder.rglob(".*.aside")):
        with suppress(FileNotFoundError):
            if time.time() - path.stat().st_mtime > ABANDONED_SECONDS:
                shutil.rmtree(path) if path.is_dir() else path.unlink()


def delete(filesystem: AbstractFileSystem, path: str) -> None:
    """Delete a file or folder, if there is one."""
    if filesystem.exists(path):
        with suppress(FileNotFoundError):  # another process deletes it, too
            filesystem.rm(path, recursive=True)


def write_file(filesystem: AbstractFileSystem, target: str) -> AbstractContextManager[IO[bytes]]:
    """A binary file that becomes `target` when the block ends well."""
    opened = _replaced_file if is_local(filesystem) else _uploaded_file
    return opened(filesystem, target)


def write_folder(
    filesystem: AbstractFileSystem, target: str, last: str
) -> AbstractContextManager[Path]:
    """A local scratch folder whose files appear below `target` when the block ends well.

    On a local storage one rename replaces an older folder of that name, so it is either the old one
    or the new one. On an object store files are replaced one by one: the file `last` of the old
    folder is deleted first and that of the new one written last, so that a folder with this file is
    complete.
    """
    if is_local(filesystem):
        return _replaced_folder(Path(target))
    return _uploaded_folder(filesystem, target, last)


@contextmanager
def _replaced_file(filesystem: AbstractFileSystem, target: str) -> Iterator[IO[bytes]]:
    aside = aside_of(Path(target))
    aside.parent.mkdir(parents=True, exist_ok=True)
    try:
        with filesystem.open(str(aside), "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        aside.replace(target)
    finally:
        aside.unlink(missing_ok=True)


@contextmanager
def _uploaded_file(filesystem: AbstractFileSystem, target: str) -> Iterator[IO[bytes]]:
    """An object, which a store shows only when its upload is complete.

    Closing the file would complete it, so after an exception it is discarded.
    """
    file = filesystem.open(target, "wb")
    try:
        yield file
        file.close()
    except BaseException:
        with suppress(OSError):  # the same fault may stop this, too
            file.discard()
        file.closed = True  # or its finalizer would try to complete the upload
        raise


@contextmanager
def _replaced_folder(folder: Path) -> Iterator[Path]:
    aside, old = aside_of(folder), aside_of(folder)
    aside.mkdir(parents=True)
    try:
        yield aside
        with suppress(FileNotFoundError):
            folder.rename(old)
        try:
            aside.rename(folder)
        except OSError as error:
            if error.errno not in {errno.ENOTEMPTY, errno.EEXIST}:
                raise  # else another writer was quicker, and its folder is as good
        shutil.rmtree(old, ignore_errors=True)
    finally:
        shutil.rmtree(aside, ignore_errors=True)


@contextmanager
def _uploaded_folder(filesystem: AbstractFileSystem, target: str, last: str) -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as name:
        scratch = Path(name)
        yield scratch
        delete(filesystem, f"{target}/{last}")
        delete(filesystem, target)
        sources = [path for path in scratch.rglob("*") if path.is_file()]
        for source in sorted(sources, key=lambda path: (path == scratch / last, path)):
            uploaded = f"{target}/{source.relative_to(scratch).as_posix()}"
            filesystem.put_file(str(source), uploaded, max_concurrency=UPLOADED_PARTS)
