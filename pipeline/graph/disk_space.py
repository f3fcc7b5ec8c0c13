"""How many bytes a storage has left, and how much of the work would fit into them."""

import os
import shutil
from pathlib import Path

from pipeline.graph.stage import Estimate
from pipeline.storage.artifacts import StorageFullError


def free_bytes(storage: str) -> int | None:
    """Bytes free where a local storage lies or will lie; None for an object store."""
    if "://" in storage:
        return None
    folder = Path(storage).resolve()
    while not os.path.exists(folder):  # noqa: PTH110 - `Path.exists` fails where a name is too long
        folder = folder.parent
    return shutil.disk_usage(folder).free


def require_space(storage: str, needed: int, largest: Estimate) -> None:
    """Reject work that would run out of space.

    Raises:
        StorageFullError: a local storage has less room than `needed` bytes; the message says how
            much fits of `largest`, the part of the work that writes most.
    """
    free = free_bytes(storage)
    if free is None or needed <= free:
        return
    raise StorageFullError(
        f"about {readable_bytes(needed)} would be written to {storage}, which has "
        f"{readable_bytes(free)} free. {_what_fits(largest, needed, free)} Name another storage "
        "with --storage, or free some space"
    )


def _what_fits(largest: Estimate, needed: int, free: int) -> str:
    room = max(0, largest.bytes_written - (needed - free))
    share = room / max(1, largest.bytes_written)
    parts = [
        f"{int(share * amount) if isinstance(amount, int) else share * amount:.3g} of the "
        f"{amount:.3g} {name}"
        for name, amount in largest.grows_with.items()
    ]
    advice = f", or {largest.advice}" if largest.advice else ""
    return f"There is room for {' or '.join(parts)}{advice}." if parts else ""


def readable_bytes(count: float) -> str:
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:.3g} TB"
