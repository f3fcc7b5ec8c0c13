"""How much of a device's arithmetic a piece of work uses: its operations, and the device's rate."""

import time
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

# Rows, columns and depth of the product that the rate is measured with.
PRODUCT = {"cuda": 8192, "cpu": 1024}
REPEATS = 10


def dense_rate(device: torch.device, dtype: torch.dtype) -> float:
    """Operations a second of a product of large square matrices, the best of some."""
    size = PRODUCT[device.type]
    left, right = (torch.randn(size, size, device=device).to(dtype) for _ in range(2))
    made = torch.empty_like(left)
    seconds = []
    for _ in range(REPEATS):
        _wait(device)
        started = time.perf_counter()
        torch.mm(left, right, out=made)
        _wait(device)
        seconds.append(time.perf_counter() - started)
    return 2 * size**3 / min(seconds)


def operations(run: Callable[[], Any]) -> int:
    """Those of the matrix products, convolutions and attention in what `run` does.

    What torch does not count: custom kernels, and layers that ask oneDNN directly. Compiled modules
    run as they were, since torch sees nothing of what compilers have made.
    """
    as_it_was = torch.compiler.set_stance("force_eager")
    counted = {torch.ops.aten.addmm: of_addmm}
    with as_it_was, FlopCounterMode(display=False, custom_mapping=counted) as counter:
        run()
    return int(counter.get_total_flops())


def of_addmm(
    _added: torch.Size, left: torch.Size, right: torch.Size, *_: Any, **_options: Any
) -> int:
    """Torch's own count has no place for `out_dtype`."""
    return 2 * left[0] * left[1] * right[1]


def operations_by_length(model: nn.Module, sample_rate_hz: int) -> Callable[[float], float]:
    """Those of a transformers SSL model for one utterance of so many seconds, without padding.

    They are quadratic in the length: three lengths say which, on a device that computes nothing.
    """
    meta = model.eval().to("meta")
    lengths = (2.0, 10.0, 20.0)
    rows = [torch.empty(1, round(s * sample_rate_hz), device="meta") for s in lengths]
    counts = [operations(partial(meta, row)) for row in rows]
    powers = torch.tensor([[s**power for power in range(3)] for s in lengths], dtype=torch.float64)
    found = torch.linalg.solve(powers, torch.tensor(counts, dtype=torch.float64)).tolist()
    return lambda seconds: sum(each * seconds**power for power, each in enumerate(found))


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
