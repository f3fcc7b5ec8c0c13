"""Rows in tiles, so that no frames x units matrix is ever complete in memory."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor

from pipeline.kernel_compiler import can_compile_kernels

# Elements of a tile's widest matrix. On a CPU a tile fits the last-level cache; on a GPU it is large
# enough for every multiprocessor, and small compared with the batch.
ELEMENTS = {"cpu": 1 << 21, "cuda": 1 << 23}


# A row of logits must fit the registers of one program of a GPU.
MOST_FUSED_UNITS = 8192


def is_fused(frames: Tensor, num_units: int) -> bool:
    """Whether a GPU's own kernels (`clustering.fused`, `quantizer.fused`) take these frames.

    Three float16 products make one of theirs, as exact as float32. Those of cuBLAS in float32 are
    had by torch's own switch, `torch.backends.cuda.matmul.fp32_precision = "ieee"`, and where no kernel
    can be compiled.
    """
    if torch.backends.cuda.matmul.fp32_precision == "ieee":
        return False
    return frames.is_cuda and num_units <= MOST_FUSED_UNITS and can_compile_kernels()


def kernels_on(frames: Tensor) -> AbstractContextManager[Any]:
    """Let kernels start on the device of these frames, which need not be the current one."""
    return torch.cuda.device(frames.device) if frames.is_cuda else nullcontext()


def tile_rows(widest: int, device: torch.device) -> int:
    """Rows of a tile whose widest matrix has `widest` columns."""
    return max(1, ELEMENTS.get(device.type, ELEMENTS["cuda"]) // max(widest, 1))


def tiles(num_rows: int, widest: int, device: torch.device) -> Iterator[slice]:
    """Neighbouring slices that cover `num_rows`, all of `tile_rows` but the last."""
    size = tile_rows(widest, device)
    for first in range(0, num_rows, size):
        yield slice(first, min(first + size, num_rows))
