"""When a phase ends before its last epoch."""

from collections.abc import Mapping
from typing import Any

Rank = tuple[float, ...]


class EarlyStop:
    """Counts a phase's epochs since its best one; without a `patience`, nothing ends early.

    All workers see the same ranks, so they stop together. The state is part of the checkpoint.
    """

    def __init__(self, patience: int | None) -> None:
        self._patience = patience
        self._best: Rank | None = None
        self._waited = 0

    def begin_phase(self) -> None:
        self._best, self._waited = None, 0

    def after(self, rank: Rank) -> bool:
        """Whether the phase ends with this epoch, the better the lower its rank."""
        if self._best is None or rank < self._best:
            self._best, self._waited = rank, 0
        else:
            self._waited += 1
        return self._patience is not None and self._waited >= self._patience

    def state(self) -> dict[str, Any]:
        return {"best": self._best, "waited": self._waited}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from a checkpoint's state, which is empty if it was written without one."""
        best = state.get("best")
        self._best, self._waited = best and tuple(best), state.get("waited", 0)
