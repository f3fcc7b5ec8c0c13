"""What a call costs: seconds, taken in turn with its rivals, and extra memory at its peak."""

import ctypes
import gc
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

# Writing 5 there sets VmHWM, the most memory that was ever resident, to what is resident now.
CLEAR_REFS = Path("/proc/self/clear_refs")
STATUS = Path("/proc/self/status")
MEMORY = Path("/proc/meminfo")

# glibc's names for settings of its malloc, and the values that they grow to by themselves.
TRIM_THRESHOLD, MMAP_THRESHOLD = -1, -3
GROWN = {MMAP_THRESHOLD: 32 << 20, TRIM_THRESHOLD: 64 << 20}
ARRAY_BYTES = 1 << 16

# Resident memory is counted in pages: a call that needs less cannot be told from one page.
PAGE_BYTES = 4096


class LeftOutError(Exception):
    """A contender that cannot take part on this machine; the message says why."""


@dataclass(frozen=True)
class Contender:
    """One way to do the work.

    Attributes:
        what: it in words, for the record.
        run: does the work once; returns the arrays that were asked for (outputs and gradients,
            each with `nbytes`), which every contender has to make.
        share: how much of the work `run` does, where all of it needs too much memory.
        prepared: whether its memory was made beforehand, so that there is none to measure.
    """

    what: str
    run: Callable[[], Sequence[Any]]
    share: float = 1.0
    prepared: bool = False


@dataclass(frozen=True)
class Cost:
    """What a contender cost.

    Attributes:
        what: it in words.
        share: of the work that was done.
        seconds: of each round, for the whole work: measured seconds / share.
        extra_bytes: see `extra_bytes`; of the share, as measured. None where there is nothing to
            measure, or no way to.
    """

    what: str
    share: float
    seconds: tuple[float, ...]
    extra_bytes: int | None


def gather(
    builders: dict[str, Callable[[], Contender]],
) -> tuple[dict[str, Contender], dict[str, str]]:
    """The contenders that can run here, each run once to warm up, and why the others cannot."""
    contenders: dict[str, Contender] = {}
    left_out: dict[str, str] = {}
    for name, build in builders.items():
        try:
            contender = build()
            contender.run()
        except ModuleNotFoundError as error:
            left_out[name] = f"{error.name} is not installed"
        except LeftOutError as error:
            left_out[name] = str(error)
        except torch.OutOfMemoryError:
            left_out[name] = "needs more memory than the GPU has"
        else:
            contenders[name] = contender
    return contenders, left_out


def costs(contenders: dict[str, Contender], device: torch.device, rounds: int) -> dict[str, Cost]:
    """What each contender costs; all take turns in every round, so that all meet the same noise."""
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(rounds):
        for name, contender in contenders.items():
            seconds[name].append(_seconds(contender.run, device) / contender.share)
    extra = {
        name: None if each.prepared else extra_bytes(each.run, device)
        for name, each in contenders.items()
    }
    return {
        name: Cost(each.what, each.share, tuple(seconds[name]), extra[name])
        for name, each in contenders.items()
    }


def extra_bytes(run: Callable[[], Sequence[Any]], device: torch.device) -> int | None:
    """The most memory that a call took above what was taken before it, less its results' own.

    Call `run` once before: memory that libraries take at a first call and keep is not the call's.
    On the CPU this is resident memory, and known on Linux only; on a GPU what torch allocated.
    """
    gc.collect()
    if device.type == "cuda":
        return _extra_on_gpu(run, device)
    return _extra_on_cpu(run) if CLEAR_REFS.exists() else None


def _extra_on_gpu(run: Callable[[], Sequence[Any]], device: torch.device) -> int:
    torch.cuda.synchronize(device)
    torch.cuda.reset_peak_memory_stats(device)
    before = torch.cuda.memory_allocated(device)
    results = run()
    torch.cuda.synchronize(device)
    peak = torch.cuda.max_memory_allocated(device)
    return _beyond(peak - before, results)


def _extra_on_cpu(run: Callable[[], Sequence[Any]]) -> int:
    """Every array gets pages of its own, which go when it goes.

    Otherwise what malloc keeps for later would count now as the call's and now not. It makes the
    call slower, so time is taken elsewhere.
    """
    libc = ctypes.CDLL(None)
    libc.mallopt(MMAP_THRESHOLD, ARRAY_BYTES)
    libc.malloc_trim(0)
    CLEAR_REFS.write_text("5", encoding="ascii")
    before = _bytes(STATUS, "VmRSS")
    results = run()
    peak = _bytes(STATUS, "VmHWM")
    for name, value in GROWN.items():
        libc.mallopt(name, value)
    return _beyond(peak - before, results)


def _beyond(grown_bytes: int, results: Sequence[Any]) -> int:
    return max(PAGE_BYTES, grown_bytes - sum(result.nbytes for result in results))


def require_memory(num_bytes: int, device: torch.device) -> None:
    """Refuse work that would not fit: on a CPU the system would end the process instead.

    Raises:
        LeftOutError: less is free.
    """
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
    elif MEMORY.exists():
        free = _bytes(MEMORY, "MemAvailable")
    else:
        return
    if num_bytes > free:
        raise LeftOutError(f"needs about {num_bytes / 1e9:.1f} GB, {free / 1e9:.1f} GB are free")


def require_cpu(device: torch.device) -> None:
    """Refuse a GPU for what computes on the CPU alone.

    Raises:
        LeftOutError: the device is no CPU.
    """
    if device.type != "cpu":
        raise LeftOutError("computes on the CPU alone")


def _seconds(run: Callable[[], Sequence[Any]], device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    started = time.perf_counter()
    results = run()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elapsed = time.perf_counter() - started
    del results  # giving memory back is not part of the work
    return elapsed


def _bytes(path: Path, name: str) -> int:
    lines = path.read_text(encoding="ascii").splitlines()
    return next(1024 * int(line.split()[1]) for line in lines if line.startswith(f"{name}:"))
