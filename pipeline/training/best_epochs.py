"""The epochs that validated best, and the average of their weights."""

import torch
from torch import Tensor

from pipeline.training.checkpoint_store import CheckpointStore

# Validation loss, epoch, phase.
Entry = tuple[float, int, int]


class BestEpochs:
    """At most `limit` entries, the best first."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self.entries: list[Entry] = []

    def add(self, loss: float, epoch: int, phase: int) -> bool:
        """Whether the epoch is among the best now."""
        self.entries = sorted([*self.entries, (loss, epoch, phase)])[: self._limit]
        return epoch in self.epochs

    @property
    def epochs(self) -> set[int]:
        return {epoch for _, epoch, _ in self.entries}

    def average(self, store: CheckpointStore) -> dict[str, Tensor]:
        """The mean weights of those that are of the best one's phase."""
        best_phase = self.entries[0][2]
        epochs = [epoch for _, epoch, phase in self.entries if phase == best_phase]
        return _mean([store.load_epoch(epoch) for epoch in epochs])


def _mean(states: list[dict[str, Tensor]]) -> dict[str, Tensor]:
    """The mean of each floating-point tensor, summed in float64; others as in the first state."""
    return {
        name: torch.stack([state[name].double() for state in states]).mean(0).to(first.dtype)
        if first.is_floating_point()
        else first
        for name, first in states[0].items()
    }
