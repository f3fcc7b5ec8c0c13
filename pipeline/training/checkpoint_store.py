"""Checkpoints of one training: the last two, and the weights of the best epochs."""

import re
from typing import Any

import torch

from pipeline.storage.artifacts import Artifact
from pipeline.training.checkpoint import VALUES, load_state, save_state

KEPT = 2


class CheckpointStore:
    """Checkpoints under `checkpoints/` of a stage's output folder.

    A folder is written with its JSON file last: a checkpoint is complete exactly when that is there.
    """

    def __init__(self, output: Artifact, device: torch.device | str = "cpu") -> None:
        self._output = output
        self._device = device

    def save(self, step: int, state: dict[str, Any]) -> None:
        """Add a checkpoint; delete all but the last two, and what killed writers left."""
        self._write(_step_folder(step), state)
        for old in self._found(r"step-(\d+)/.*") - set(self.steps()[-KEPT:]):
            self._output.delete(_step_folder(old))

    def steps(self) -> list[int]:
        """The steps of the complete checkpoints, in rising order."""
        return sorted(self._found(rf"step-(\d+)/{re.escape(VALUES)}"))

    def latest(self) -> dict[str, Any] | None:
        """The newest complete checkpoint; None if there is none yet."""
        steps = self.steps()
        return self._read(_step_folder(steps[-1])) if steps else None

    def save_epoch(self, epoch: int, weights: dict[str, torch.Tensor]) -> None:
        self._write(_epoch_folder(epoch), weights)

    def load_epoch(self, epoch: int) -> dict[str, Any]:
        return self._read(_epoch_folder(epoch))

    def forget_epochs(self, kept: set[int]) -> None:
        """Delete every epoch's weights but those of `kept`."""
        for epoch in self._found(r"epoch-(\d+)/.*") - kept:
            self._output.delete(_epoch_folder(epoch))

    def _found(self, pattern: str) -> set[int]:
        """The numbers in the names of files below `checkpoints/` that match."""
        names = self._output.names("checkpoints")
        matches = (re.fullmatch(f"checkpoints/{pattern}", name) for name in names)
        return {int(match[1]) for match in matches if match}

    def _write(self, folder: str, state: dict[str, Any]) -> None:
        with self._output.write_folder(folder, last=VALUES) as scratch:
            save_state(scratch, state)

    def _read(self, folder: str) -> dict[str, Any]:
        with self._output.read_folder(folder, last=VALUES) as local:
            return load_state(local, self._device)


def _step_folder(step: int) -> str:
    return f"checkpoints/step-{step:08d}"


def _epoch_folder(epoch: int) -> str:
    return f"checkpoints/epoch-{epoch:04d}"
