"""Reading the log of a stage, while it grows or when it is complete."""

import json
import re
from typing import Any

from pipeline.storage.artifacts import LOG, Artifact
from pipeline.storage.folders import Folder

Entry = dict[str, Any]
Row = dict[str, float]

_TABLE = "history.parquet"
_PART = re.compile(rf"{LOG}/[^/]+\.jsonl")


class LogReader:
    """Reads each line of a log once."""

    def __init__(self, output: Artifact) -> None:
        self._output = output
        self._bytes_read: dict[str, int] = {}

    def new(self) -> list[Entry]:
        """What has been written since the last call that succeeded, by time.

        Raises:
            ValueError: a part is damaged.
            OSError: the storage cannot be read.
        """
        parts = {
            name: self._read(name)
            for name, size in self._output.sizes(LOG).items()
            if _PART.fullmatch(name) and size > self._bytes_read.get(name, 0)
        }
        self._bytes_read |= {name: size for name, (_, size) in parts.items()}
        entries = [entry for of_part, _ in parts.values() for entry in of_part]
        return sorted(entries, key=lambda entry: entry["time_ms"])

    def _read(self, name: str) -> tuple[list[Entry], int]:
        """A part's new entries, and the bytes it has by now."""
        # At once: the part may be replaced by a longer one at any time.
        content = Folder(self._output.uri).read(name)
        lines = content[self._bytes_read.get(name, 0) :].splitlines()
        try:
            entries = [_entry(line) for line in lines]
        except (TypeError, ValueError) as error:
            raise ValueError(f"{self._output.uri}/{name} is damaged: {error}") from error
        return entries, len(content)


def _entry(line: bytes) -> Entry:
    entry = json.loads(line)
    if not isinstance(entry, dict) or not isinstance(entry.get("time_ms"), int):
        raise TypeError(f"a line is no entry of a log: {line[:80]!r}")
    return entry


def read_history(output: Artifact) -> list[Row]:
    """The metrics of a log, a row for each step, by step.

    A training that was stopped has logged some steps twice: the first value of each counts.

    Raises:
        ArtifactError, OSError: the storage cannot be read.
        ValueError: a part is damaged.
    """
    logged = [
        (entry["step"], entry["metrics"]) for entry in LogReader(output).new() if "metrics" in entry
    ]
    rows: dict[int, Row] = {}
    for step, metrics in logged or _before_logs(output):
        row = rows.setdefault(step, {"step": float(step)})
        for name, value in metrics.items():
            row.setdefault(name, value)
    return [rows[step] for step in sorted(rows)]


def _before_logs(output: Artifact) -> list[tuple[int, Row]]:
    """What a training has in a table that ended before there were logs."""
    if not output.exists(_TABLE):
        return []
    rows = output.read_table(_TABLE).to_pylist()
    known = [{name: value for name, value in row.items() if value is not None} for row in rows]
    return [(int(row.pop("step")), row) for row in known]
