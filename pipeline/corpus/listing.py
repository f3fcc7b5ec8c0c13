"""Which audio a corpus names, and what is known of it without opening it."""

import inspect
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pyarrow as pa

from pipeline.config import digest
from pipeline.storage.artifacts import Artifact, ArtifactError
from pipeline.storage.folders import Folder

# Tables with fewer utterances are parsed faster than looked up.
MANY = 10_000


def listings_in(storage: str) -> Artifact:
    """Where a storage keeps what need not be computed again; the folder may always be deleted."""
    return Artifact(f"{Folder.at(storage).uri}/listings")


def audio_addresses(
    cache: Artifact, contents: Any, parse: Callable[..., Any], find: Callable[[], Iterable[str]]
) -> list[str]:
    """The audio that a corpus names, each address once; many are parsed only once.

    `contents` (JSON) is all that the addresses depend on, beside the code of `parse`.
    """
    code = Path(inspect.getfile(parse)).read_bytes().decode()
    name = f"audio-{digest([contents, code])}.parquet"
    with suppress(ArtifactError, OSError, KeyError, pa.ArrowException):
        return list(map(str, cache.read_table(name)["audio"].to_pylist()))
    addresses = list(dict.fromkeys(find()))
    if len(addresses) >= MANY:
        # A storage that cannot be written is reported where an output is to be written.
        with suppress(ArtifactError, OSError):
            cache.write_table(name, pa.table({"audio": addresses}))
    return addresses
