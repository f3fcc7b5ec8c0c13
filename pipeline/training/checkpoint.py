"""Training state on disk: tensors as safetensors, everything else as JSON. No pickle."""

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

TENSORS = "tensors.safetensors"
VALUES = "values.json"
_TENSOR = "__tensor__"


def save_state(folder: Path, state: dict[str, Any]) -> None:
    """Write nested dicts and lists of tensors, numbers, strings, booleans and None.

    Integer keys (as in an optimizer's state) are kept. The folder must exist.

    Raises:
        TypeError: the state holds something that is neither a tensor nor a JSON value.
    """
    tensors: dict[str, torch.Tensor] = {}
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


def _split(value: Any, path: tuple[str, ...], tensors: dict[str, torch.Tensor]) -> Any:
    if isinstance(value, torch.Tensor):
        name = "/".join(path)
        # A clone: two names may share memory (tied weights), which safetensors refuses.
        tensors[name] = value.detach().clone().contiguous()
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


def _join(value: Any, tensors: dict[str, torch.Tensor]) -> Any:
    if isinstance(value, dict):
        if _TENSOR in value:
            return tensors[value[_TENSOR]]
        return {key: _join(item, tensors) for key, item in value["pairs"]}
    if isinstance(value, list):
        return [_join(item, tensors) for item in value]
    return value
