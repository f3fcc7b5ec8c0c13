"""The files below a local folder; links are followed."""

import os
import stat
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

# Of all ways through links to one folder. Folders that link to each other have astronomically many.
MOST_WAYS = 64

_Identity = tuple[int, int]


@dataclass(frozen=True, slots=True)
class _Pending:
    """A folder to be searched, the folders above it, and whether a link leads there."""

    name: str
    above: tuple[_Identity, ...] = ()
    is_linked: bool = False


class LocalTree:
    """What is below the folder `root`, by relative name; nothing if it is not a folder.

    A folder that several links lead to is listed below each of them; a link back to a folder that it
    is in itself is not followed.

    Attributes:
        unusable: what `files` met that should have been a file or folder, with the reason: broken
            links, folders that cannot be read (the name of `root` itself is empty), links to folders
            around `root`, and what is neither file nor folder.
    """

    def __init__(self, root: str) -> None:
        self.unusable: dict[str, str] = {}
        self._root = root
        self._ways: Counter[_Identity] = Counter()
        self._around: set[_Identity] = set()
        # A stack, because folders can be deep.
        self._pending: list[_Pending] = []

    def files(self) -> Iterator[tuple[str, os.stat_result]]:
        """The regular files, in no order."""
        if Path(self._root).is_dir():
            self._pending.append(_Pending(""))
            around = (folder.stat() for folder in Path(self._root).resolve().parents)
            self._around = {_identity(status) for status in around}
        while self._pending:
            folder = self._pending.pop()
            try:
                identity = _identity(Path(self._root, folder.name).stat())
                if self._may_enter(folder, identity):
                    yield from self._inside(folder, (*folder.above, identity))
            except OSError as error:
                self.unusable[folder.name] = f"the folder cannot be read: {error.strerror}"

    def _may_enter(self, folder: _Pending, identity: _Identity) -> bool:
        if not folder.is_linked:  # without links there are no loops, even where inodes mean nothing
            return True
        if identity in folder.above:  # all of it is listed already
            return False
        if identity in self._around:
            self.unusable[folder.name] = "the link leads to a folder around the one that is listed"
            return False
        self._ways[identity] += 1
        if self._ways[identity] > MOST_WAYS:
            reason = f"too many links lead to this folder: followed {MOST_WAYS}"
            self.unusable[folder.name] = reason
            return False
        return True

    def _inside(
        self, folder: _Pending, path: tuple[_Identity, ...]
    ) -> Iterator[tuple[str, os.stat_result]]:
        prefix = f"{folder.name}/" * bool(folder.name)
        with os.scandir(f"{self._root}/{folder.name}") as entries:
            for entry in entries:
                name = prefix + entry.name
                try:
                    if entry.is_dir():
                        is_linked = folder.is_linked or entry.is_symlink()
                        self._pending.append(_Pending(name, path, is_linked))
                        continue
                    status = entry.stat()
                except OSError as error:
                    kind = "broken link" if entry.is_symlink() else "the file cannot be read"
                    self.unusable[name] = f"{kind}: {error.strerror}"
                    continue
                if stat.S_ISREG(status.st_mode):
                    yield name, status
                else:
                    self.unusable[name] = "not a regular file"


def _identity(status: os.stat_result) -> _Identity:
    return status.st_dev, status.st_ino
