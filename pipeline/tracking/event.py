"""What is logged, as plain values that wait in memory, or as JSON in the storage, until sent."""

import base64
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal, Self

from pipeline.config import digest

Status = Literal["FINISHED", "FAILED", "KILLED"]
Kind = Literal["params", "tags", "metrics", "status", "artifact", "tokenizer"]


@dataclass(frozen=True)
class RunName:
    """An MLflow run identified by its experiment, name, tags and parent.

    Any process can find the run by these, whether or not it has been created.
    """

    experiment: str
    name: str
    tags: tuple[tuple[str, str], ...]
    parent: "RunName | None" = None

    @property
    def key(self) -> str:
        """16 hex digits, unique among the runs of a storage."""
        return digest(self.to_json())

    def to_json(self) -> dict[str, Any]:
        return {
            "experiment": self.experiment,
            "name": self.name,
            "tags": dict(self.tags),
            "parent": None if self.parent is None else self.parent.to_json(),
        }

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Self:
        parent = value["parent"]
        return cls(
            value["experiment"],
            value["name"],
            tuple(value["tags"].items()),
            None if parent is None else cls.from_json(parent),
        )


class _Clock:
    """Milliseconds since 1970; no two readings of a process are equal.

    Of two values with equal step and time, MLflow shows the greater as the later one.
    """

    def __init__(self) -> None:
        self._last = 0
        self._lock = threading.Lock()

    def __call__(self) -> int:
        with self._lock:
            self._last = max(self._last + 1, int(time.time() * 1000))
            return self._last


_now_ms = _Clock()


@dataclass(frozen=True)
class Event:
    """One thing to log to one run.

    `content` holds JSON values: of `params` and `tags` their names and texts; of `metrics` the `step` (None for
    a final score) and the `values`; of `status` the `status`; of an `artifact` its `path` in the
    run, whose bytes are `data`; of a `tokenizer` the `uri` of its folder. `time_ms` is when it
    happened, by which MLflow orders values, and recognises a value that is sent twice.
    """

    run: RunName
    kind: Kind
    content: dict[str, Any]
    data: bytes = field(default=b"", repr=False)
    time_ms: int = field(default_factory=_now_ms)

    def __str__(self) -> str:
        """What it logs, for a message."""
        match self.kind:
            case "metrics":
                return _listed("metric", self.content["values"])
            case "params":
                return _listed("parameter", self.content)
            case "tags":
                return _listed("tag", self.content)
            case "artifact":
                return f"artifact '{self.content['path']}'"
            case _:
                return self.kind

    def halves(self) -> "list[Event]":
        """Two events that say half of it each; none if it says a single thing."""
        if self.kind not in {"metrics", "params", "tags"}:
            return []
        entries = self.content["values"] if self.kind == "metrics" else self.content
        middle, pairs = len(entries) // 2, list(entries.items())
        if not middle:
            return []
        parts = [dict(pairs[:middle]), dict(pairs[middle:])]
        if self.kind == "metrics":
            parts = [{**self.content, "values": part} for part in parts]
        return [replace(self, content=part) for part in parts]

    @property
    def is_final_score(self) -> bool:
        return self.kind == "metrics" and self.content["step"] is None

    def to_json(self) -> dict[str, Any]:
        """Everything but the run."""
        value = {"kind": self.kind, "time_ms": self.time_ms, "content": self.content}
        return {**value, "data": base64.b64encode(self.data).decode()} if self.data else value

    @classmethod
    def from_json(cls, run: RunName, value: dict[str, Any]) -> Self:
        data = base64.b64decode(value.get("data", ""))
        return cls(run, value["kind"], value["content"], data, int(value["time_ms"]))


def _listed(kind: str, names: Mapping[str, Any]) -> str:
    return f"{kind} {', '.join(repr(name) for name in names)}"
