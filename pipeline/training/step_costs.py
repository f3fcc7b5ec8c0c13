"""What training steps cost: time, waiting and memory, for the log."""

import resource
import sys
from statistics import fmean

import torch

from pipeline.training.worker import Worker

# Linux counts the resident set in KiB, macOS in bytes.
RESIDENT_UNIT = 1 if sys.platform == "darwin" else 1024


class StepCosts:
    """The steps since the last report on this worker.

    They are not part of a checkpoint: a resumed process reports only its own steps.
    """

    def __init__(self) -> None:
        self._steps: list[tuple[float, float, float]] = []

    def step(self, audio_seconds: float, seconds: float, waited: float) -> None:
        """Count a step over `audio_seconds` (of all workers); it `waited` for data within `seconds`."""
        self._steps.append((audio_seconds, seconds, waited))

    def report(self, worker: Worker) -> dict[str, float]:
        """Means since the last report, of the slowest worker, and the largest peak memory.

        Every worker must call at the same step.
        """
        audio_seconds, *costs = map(fmean, zip(*self._steps, strict=True))
        self._steps.clear()
        costs.append(peak_bytes(worker.device) / 2**30)
        slowest = worker.max(torch.tensor(costs, dtype=torch.float64, device=worker.device))
        seconds, waited, peak_gib = slowest.tolist()
        return {
            "step_seconds": seconds,
            "data_wait_seconds": waited,
            "audio_seconds_per_second": audio_seconds / seconds if seconds > 0 else 0.0,
            "peak_memory_gib": peak_gib,
        }


def peak_bytes(device: torch.device) -> int:
    """The most memory that torch has held on a GPU, or this process has had resident."""
    if device.type == "cuda":
        return int(torch.cuda.max_memory_allocated(device))
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * RESIDENT_UNIT
