"""Functions and classes by name, for workers: who only starts workers need not load models."""

from dataclasses import dataclass
from pkgutil import resolve_name
from typing import Any


@dataclass(frozen=True)
class Imported:
    """`module:name`, imported where it is called. PyTorch and transformers take seconds to load."""

    name: str

    def __call__(self, *arguments: Any, **keywords: Any) -> Any:
        return resolve_name(self.name)(*arguments, **keywords)
