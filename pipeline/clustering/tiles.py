"""Rows in tiles: what frames x units work holds at once, instead of all of it."""

from collections.abc import Iterator

import torch

# Elements of a tile's widest matrix. A CPU's tile stays in its last cache; a GPU's is large enough
# to keep every multiprocessor at work, and small beside the batch.
ELEMENTS = {"cpu": 1 << 21, "cuda": 1 << 23}


def tile_rows(widest: int, device: torch.device) -> int:
    """Rows of a tile whose widest matrix has `widest` columns."""
    return max(1, ELEMENTS.get(device.type, ELEMENTS["cuda"]) // max(widest, 1))


def tiles(num_rows: int, widest: int, device: torch.device) -> Iterator[slice]:
    """Neighbouring slices that cover `num_rows`, all of `tile_rows` but the last."""
    size = tile_rows(widest, device)
    for first in range(0, num_rows, size):
        yield slice(first, min(first + size, num_rows))
