"""Checkpoints of one training: the last two, and the weights of the best epochs.

Tensors are safetensors, everything else is JSON: no pickle.
"""

import json
import re
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from pipeline.storage.artifacts import CHECKPOINTS, Artifact

KEPT = 2
TENSORS = "tensors.safetensors"
VALUES = "values.json"
_TENSOR = "__tensor__"


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
        for old in self._numbers(r"step-(\d+)/.*") - set(self.steps()[-KEPT:]):
            self._output.delete(_step_folder(old))

    def steps(self) -> list[int]:
        """The steps of the complete checkpoints, in rising order."""
        return sorted(self._numbers(rf"step-(\d+)/{re.escape(VALUES)}"))

    def latest(self) -> dict[str, Any] | None:
        """The newest complete checkpoint; None if there is none yet."""
        steps = self.steps()
        return self._read(_step_folder(steps[-1])) if steps else None

    def save_epoch(self, epoch: int, weights: dict[str, Tensor]) -> None:
        self._write(_epoch_folder(epoch), weights)

    def load_epoch(self, epoch: int) -> dict[str, Any]:
        return self._read(_epoch_folder(epoch))

    def forget_epochs(self, kept: set[int]) -> None:
        """Delete every epoch's weights but those of `kept`."""
        for epoch in self._numbers(r"epoch-(\d+)/.*") - kept:
            self._output.delete(_epoch_folder(epoch))

    def _numbers(self, pattern: str) -> set[int]:
        """The numbers in the names of files below `checkpoints/` that match."""
        names = self._output.names(CHECKPOINTS)
        matches = (re.fullmatch(f"{CHECKPOINTS}/{pattern}", name) for name in names)
        return {int(match[1]) for match in matches if match}

    def _write(self, folder: str, state: dict[str, Any]) -> None:
        with self._output.write_folder(folder, last=VALUES) as scratch:
            save_state(scratch, state)

    def _read(self, folder: str) -> dict[str, Any]:
        with self._output.read_folder(folder, last=VALUES) as local:
            return load_state(local, self._device)


def _step_folder(step: int) -> str:
    return f"{CHECKPOINTS}/step-{step:08d}"


def _epoch_folder(epoch: int) -> str:
    return f"{CHECKPOINTS}/epoch-{epoch:04d}"


class BestEpochs:
    """The epochs that validated best, at most `limit`: rank, epoch and phase, the best first.

    A rank has the scores that epochs are compared by, the first that differ; the lower, the better.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self.entries: list[tuple[tuple[float, ...], int, int]] = []

    def add(self, rank: tuple[float, ...], epoch: int, phase: int) -> bool:
        """Whether the epoch is among the best now."""
        self.entries = sorted([*self.entries, (rank, epoch, phase)])[: self._limit]
        return epoch in self.epochs

    @property
    def epochs(self) -> set[int]:
        return {epoch for _, epoch, _ in self.entries}

    def average(self, store: CheckpointStore) -> dict[str, Tensor]:
        """The mean weights of those that are of the best one's phase.

        Floating-point tensors are summed in float64; others are those of the best epoch.
        """
        best_phase = self.entries[0][2]
        epochs = [epoch for _, epoch, phase in self.entries if phase == best_phase]
        states = [store.load_epoch(epoch) for epoch in epochs]
        return {
            name: torch.stack([state[name].double() for state in states]).mean(0).to(best.dtype)
            if best.is_floating_point()
            else best
            for name, best in states[0].items()
        }


def save_state(folder: Path, state: dict[str, Any]) -> None:
    """Write nested dicts and lists of tensors, numbers, strings, booleans and None.

    Integer keys (as in an optimizer's state) are kept. The folder must exist.

    Raises:
        TypeError: the state holds something that is neither a tensor nor a JSON value.
    """
    tensors: dict[str, Tensor] = {}
    values = _split(state, (), tensors)
    save_file(tensors, folder / TENSORS)
    (folder / VALUES).write_text(json.dumps(values), encoding="utf-8")


def load_state(folder: Path, device: torch.device | str = "cpu") -> dict[str, Any]:
    """What `save_state` wrote, tensors on `device`."""
    tensors = load_file(folder / TENSORS, device=str(device))
    values = json.loads((folder / VALUES).read_text(encoding="utf-8"))
    state = _join(values, tensors)
    if not isinstance(state, dict):
        raise TypeError(f"{folder / VALUES} holds a {type(state).__name__}, not a mapping")
    return state


def _split(value: Any, path: tuple[str, ...], tensors: dict[str, Tensor]) -> Any:
    if isinstance(value, Tensor):
        name = "/".join(path)
        # A copy: two names may share memory (tied weights), which safetensors refuses. A GPU may not have
        # room for it.
        tensors[name] = value.detach().to("cpu", copy=True).contiguous()
        return {_TENSOR: name}
    if isinstance(value, dict):
        # JSON keys are strings, so a mapping is kept as pairs: integer keys survive.
        return {
            "pairs": [
                [key, _split(item, (*path, str(key)), tensors)] for key, item in value.items()
            ]
        }
    if isinstance(value, list | tuple):
        return [_split(item, (*path, str(index)), tensors) for index, item in enumerate(value)]
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise TypeError(f"{'/'.join(path)} is a {type(value).__name__}: not a tensor, not a JSON value")


def _join(value: Any, tensors: dict[str, Tensor]) -> Any:
    if isinstance(value, dict):
        if _TENSOR in value:
            return tensors[value[_TENSOR]]
        return {key: _join(item, tensors) for key, item in value["pairs"]}
    if isinstance(value, list):
        return [_join(item, tensors) for item in value]
    return value
