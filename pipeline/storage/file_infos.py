"""Sizes and versions of any number of files at once."""

import os
import posixpath
import stat
from collections import defaultdict
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor

from pipeline.storage.folders import FileInfo, Folder, filesystem_and_path, is_uri

Infos = dict[str, FileInfo | None]

# Listing a folder takes as long as asking for this many of its files.
FEW = 4
REQUESTS = 16


def file_infos(addresses: Iterable[str]) -> Infos:
    """What is at each address, in their order; None where no file is, or none can be seen.

    On an object store folders are listed, which takes one request for a thousand files.
    """
    infos: Infos = dict.fromkeys(addresses)
    remote: dict[str, list[str]] = defaultdict(list)
    for address in infos:
        if is_uri(address):
            remote[address.rpartition("/")[0]].append(address)
        else:
            infos[address] = _local(address)
    if remote:
        with ThreadPoolExecutor(REQUESTS) as pool:
            for found in pool.map(_listed, *zip(*_requests(remote), strict=True)):
                infos |= found
    return infos


def _local(path: str) -> FileInfo | None:
    try:
        status = os.stat(path)  # noqa: PTH116 - a Path takes longer to make than to ask
    except (OSError, ValueError):
        return None
    return FileInfo.of(status) if stat.S_ISREG(status.st_mode) else None


def _requests(remote: dict[str, list[str]]) -> list[tuple[str, list[str]]]:
    """What to list, with the files that are wanted of it: one tree rather than many folders."""
    tree = posixpath.commonpath(remote) if len(remote) > FEW else ""
    below_a_bucket = len(tree.split("/")) > 2  # commonpath makes one slash of two
    if not below_a_bucket:
        return list(remote.items())
    scheme = next(iter(remote)).partition("://")[0]
    return [
        (f"{scheme}://{tree.split('/', 1)[1]}", [name for part in remote.values() for name in part])
    ]


def _listed(folder: str, addresses: list[str]) -> Infos:
    """The infos of some files below a folder."""
    if len(addresses) < FEW:
        return {address: _asked(address) for address in addresses}
    there = Folder(folder).files()
    start = len(folder) + 1
    return {address: there.get(address[start:]) for address in addresses}


def _asked(address: str) -> FileInfo | None:
    try:
        filesystem, path = filesystem_and_path(address)
        info = filesystem.info(path)
    except (OSError, ValueError):
        return None
    return FileInfo.remote(info) if info["type"] == "file" else None
