"""Whether an output can be written, tried out before any work is done for it."""

import os
import shutil
from pathlib import Path

from pipeline.storage.artifacts import Artifact, ArtifactError, StorageFullError
from pipeline.storage.atomic import aside_of, is_local
from pipeline.storage.folders import filesystem_and_path

NAME = "try"


class UnwritableError(ArtifactError):
    """Nothing can be written there; the message says why."""


def require_writable(uri: str, *, as_file: bool = False) -> None:
    """Write a small file where the folder `uri`, or with `as_file` the file `uri`, is to be; delete it.

    Folders that do not exist are not made; whether they can be is tried beside them.

    Raises:
        UnwritableError: it cannot be written.
        StorageFullError: there is no space left.
    """
    if not uri.strip():
        raise UnwritableError("the name of the output is empty: name a file or a folder")
    try:
        filesystem, path = filesystem_and_path(uri)
        if is_local(filesystem):
            _try_locally(Path(os.path.realpath(path)), as_file=as_file)
        else:
            _try_remotely(uri.rpartition("/")[0] if as_file else uri)
    except StorageFullError:
        raise StorageFullError(
            f"no space left to write {uri}: free some, or name another output"
        ) from None
    except NotImplementedError:
        raise UnwritableError(
            f"{uri} cannot be written: such addresses can only be read; name a folder, or "
            "s3://bucket/prefix"
        ) from None
    except (OSError, ValueError, ImportError, RuntimeError) as error:
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        raise UnwritableError(f"{uri} cannot be written: {reason}") from error


def require_no_file(uri: str) -> None:
    """Refuse the address of a folder where a local file is in the way; nothing is written.

    Raises:
        UnwritableError: names the file.
    """
    filesystem, path = filesystem_and_path(uri)
    if is_local(filesystem):
        try:
            _existing_folder(Path(os.path.realpath(path)))
        except OSError as error:
            raise UnwritableError(f"{uri} cannot be written: {error}") from error


def _existing_folder(folder: Path) -> Path:
    """The folder, or the innermost above it that exists."""
    existing = next(each for each in (folder, *folder.parents) if each.exists())
    if not existing.is_dir():
        raise NotADirectoryError(f"{existing} is a file, not a folder; name another output")
    return existing


def _try_locally(path: Path, *, as_file: bool) -> None:
    if as_file and path.is_dir():
        raise IsADirectoryError("it is a folder; name a file")
    folder = path.parent if as_file else path
    existing = _existing_folder(folder)
    aside = aside_of(existing / NAME)
    try:
        aside.mkdir()
    except FileNotFoundError as error:
        raise NotADirectoryError(f"{existing} takes no new files") from error
    try:
        output = Artifact(str(aside / folder.relative_to(existing)))
        with output.write(path.name if as_file else NAME) as file:
            file.write(b"\0")
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def _try_remotely(folder: str) -> None:
    output, name = Artifact(folder), aside_of(Path(NAME)).name
    with output.write(name) as file:
        file.write(b"\0")
    output.delete(name)
