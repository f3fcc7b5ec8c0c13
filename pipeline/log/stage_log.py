"""The log of a stage: JSON Lines in `log/` of its output, which it writes while it works.

Each process that logs writes parts of its own. A part grows by being replaced as a whole, on a disk
as in S3, so a reader remembers how many bytes of each it has read. Every line has the time (`time_ms`
since 1970) and one of

- `started`: the stage has begun, in the process that is named;
- `step` and `metrics`: values at a step of a training;
- `report`: how far it is (`pipeline.progress.Report`);
- `message`: a line for its readers;
- `file`: a figure or audio of the output that is worth showing;
- `error`: why it has failed.

Whoever publishes or shows a run reads this, so that nobody who works waits for them.
"""

import json
import math
import os
import socket
import threading
import time
import uuid
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict
from pathlib import PurePosixPath
from typing import Any

from pipeline.progress import Progress, Report
from pipeline.storage.artifacts import LOG, Artifact

# A part is written after so long, or so many times what it takes to write it, so that the work
# hardly waits; at the latest after the second time, so that whoever looks on does not wait either.
WRITE_SECONDS = (1.0, 6.0)
WRITE_SHARE = 0.01
# Then the next part begins: a replaced one is written again from its start.
PART_BYTES = 1 << 18


class StageLog:
    """The log of the stage that writes `output`.

    Where it is sent to, another process has a log of its own. A log that cannot be written waits and
    is tried again; only `flush` raises an error.
    """

    def __init__(self, output: Artifact) -> None:
        self.output = output
        self._lock = threading.Lock()
        self._written_by = f"{now_ms():013d}-{uuid.uuid4().hex[:8]}"
        self._number = 0
        self._content = bytearray()
        self._unwritten = False
        self._due = 0.0

    def __reduce__(self) -> tuple[Any, ...]:
        return StageLog, (self.output,)

    def started(self) -> None:
        self._add({"started": f"process {os.getpid()} on {socket.gethostname()}"}, now=True)

    def metrics(self, values: Mapping[str, float], step: int) -> None:
        """Values at a step; what is not finite is left out. The first value of a step counts."""
        numbers = {name: float(value) for name, value in values.items()}
        finite = {name: value for name, value in numbers.items() if math.isfinite(value)}
        self._add({"step": int(step), "metrics": finite})

    def figure(self, figure: Any, name: str) -> None:
        """Store a matplotlib figure as `name`, whose suffix names the format, and show it."""
        with self.output.write(name) as file:
            figure.savefig(file, format=PurePosixPath(name).suffix.removeprefix("."))
        self.file(name)

    def file(self, name: str) -> None:
        """Show a file of the output."""
        self._add({"file": name})

    def failed(self, error: str) -> None:
        self._add({"error": error}, now=True)

    @property
    def progress(self) -> Progress:
        """What reports and messages go through."""
        return Progress(self.put)

    def put(self, item: Report | str) -> None:
        if isinstance(item, str):
            self._add({"message": item}, now=True)
        else:
            self._add({"report": asdict(item)})

    def flush(self) -> None:
        """Write what waits: before a checkpoint that relies on it, a long silence, the end.

        Raises:
            ArtifactError, OSError: the storage cannot be written.
        """
        with self._lock:
            self._write()

    def _add(self, entry: dict[str, Any], *, now: bool = False) -> None:
        line = json.dumps({"time_ms": now_ms(), **entry}, allow_nan=False)
        with self._lock:
            self._content += line.encode() + b"\n"
            self._unwritten = True
            if now or time.monotonic() >= self._due:
                self._due = time.monotonic() + WRITE_SECONDS[1]
                with suppress(Exception):  # the work goes on, and meets the same fault
                    self._write()

    def _write(self) -> None:
        if not self._unwritten:
            return
        started = time.monotonic()
        with self.output.write(f"{LOG}/{self._written_by}-{self._number:05d}.jsonl") as file:
            file.write(bytes(self._content))
        self._unwritten = False
        least, most = WRITE_SECONDS
        ended = time.monotonic()
        self._due = ended + min(max((ended - started) / WRITE_SHARE, least), most)
        if len(self._content) >= PART_BYTES:
            self._content.clear()
            self._number += 1


def now_ms() -> int:
    return int(time.time() * 1000)
