"""Sizes and versions of any number of files at once."""

import os
from collections import defaultdict
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor

from pipeline.storage.failures import may_recover
from pipeline.storage.folders import S3, AddressError, FileInfo, Folder, file_info

Infos = dict[str, FileInfo | None]

# Listing a folder takes as long as asking for this many of its files.
FEW = 4
REQUESTS = 16


def file_infos(addresses: Iterable[str]) -> Infos:
    """What is at each address, in their order; None where no file is, or none can be seen.

    On an object store folders are listed, which takes one request for a thousand files.

    Raises:
        OSError: a storage failed, and may recover.
    """
    infos: Infos = dict.fromkeys(addresses)
    remote: dict[str, list[str]] = defaultdict(list)
    for address in infos:
        if address.startswith(S3):
            remote[address.rpartition("/")[0]].append(address)
        else:
            infos[address] = _asked(address)
    if remote:
        with ThreadPoolExecutor(REQUESTS) as pool:
            for found in pool.map(_listed, *zip(*_requests(remote), strict=True)):
                infos |= found
    return infos


def _requests(remote: dict[str, list[str]]) -> list[tuple[str, list[str]]]:
    """What to list, with the files that are wanted of it: one tree rather than many folders."""
    # A key may hold `//` and `..`, which `commonpath` would change.
    start = os.path.commonprefix([f"{folder}/" for folder in remote])  # noqa: RUF071
    tree = start.rpartition("/")[0]
    below_a_bucket = "/" in tree.removeprefix(S3)
    if len(remote) <= FEW or not below_a_bucket:
        return list(remote.items())
    return [(tree, [name for part in remote.values() for name in part])]


def _listed(folder: str, addresses: list[str]) -> Infos:
    """The infos of some files below a folder."""
    if len(addresses) < FEW:
        return {address: _asked(address) for address in addresses}
    try:
        there = Folder(folder).files()
    except OSError as error:
        if may_recover(error):
            raise
        there = {}
    start = len(folder) + 1
    return {address: there.get(address[start:]) for address in addresses}


def _asked(address: str) -> FileInfo | None:
    try:
        return file_info(address)
    except AddressError:
        return None
    except OSError as error:
        if may_recover(error):
            raise
        return None
