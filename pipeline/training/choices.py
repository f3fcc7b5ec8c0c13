"""How the units of a step were chosen: means over its frames, whichever worker has them."""

from collections.abc import Mapping

import torch
from torch import Tensor

from pipeline.training.worker import Worker

# Of a quantizer's statistics; one may lack some or all of them.
MEASURES = ("entropy", "perplexity", "noisy_share")


class ChoiceMeans:
    """Adds up the statistics of micro-batches, each with the weight of its valid frames."""

    def __init__(self) -> None:
        self._sums: dict[str, Tensor] = {}

    def add(self, statistics: Mapping[str, Tensor], *, counted: bool) -> None:
        """Add a micro-batch, with no weight if it only fills up this worker's share.

        Nothing is read from the device.
        """
        names = [name for name in MEASURES if name in statistics]
        if not names:
            return
        num_frames = statistics["num_frames"].double() * float(counted)
        sums = {name: statistics[name] * num_frames for name in names} | {"num_frames": num_frames}
        self._sums = {name: self._sums.get(name, 0) + value for name, value in sums.items()}

    def report(self, worker: Worker) -> dict[str, float]:
        """The means over all workers, which must all call; nothing if there was no frame."""
        if not self._sums:
            return {}
        totals = worker.sum(torch.stack(list(self._sums.values()))).tolist()
        of_name = dict(zip(self._sums, totals, strict=True))
        num_frames = of_name.pop("num_frames")
        return {name: total / num_frames for name, total in of_name.items() if num_frames}
