"""Events that could not be sent, in the storage: JSON Lines in `<storage>/tracking/outbox/<run>/`.

A file's first line names the run; every other line is one of its events. A file appears complete
or not at all, and is deleted when all of its events have been sent.
"""

import json
import uuid
from collections.abc import Sequence

from pipeline.storage.artifacts import Artifact
from pipeline.tracking.event import Event, RunName

_SUFFIX = ".jsonl"


class Outbox:
    """The events of one storage that wait for MLflow."""

    def __init__(self, uri: str) -> None:
        self.uri = uri
        self._folder = Artifact(uri)

    def add(self, events: Sequence[Event]) -> None:
        """Store events, in one new file for each of their runs.

        Raises:
            ArtifactError, OSError: the storage cannot be written.
        """
        runs = {event.run.key: event.run for event in events}
        for key, run in runs.items():
            of_run = [event for event in events if event.run == run]
            lines = [{"run": run.to_json()}, *(event.to_json() for event in of_run)]
            name = f"{key}/{of_run[0].time_ms}-{uuid.uuid4().hex[:8]}{_SUFFIX}"
            with self._folder.write(name) as file:
                for line in lines:
                    file.write(json.dumps(line).encode() + b"\n")

    def files(self, run_key: str = "") -> list[str]:
        """The names of the waiting files, of one run (`RunName.key`) or of all."""
        return [name for name in self._folder.names(run_key) if name.endswith(_SUFFIX)]

    def read(self, name: str) -> list[Event]:
        """The events of one file.

        Raises:
            ValueError: the file does not hold events.
        """
        with self._folder.read(name) as file:
            lines = [json.loads(line) for line in file]
        try:
            run = RunName.from_json(lines[0]["run"])
            return [Event.from_json(run, line) for line in lines[1:]]
        except (AttributeError, IndexError, KeyError, TypeError) as error:
            raise ValueError(f"{self.uri}/{name} is not a file of events: {error!r}") from error

    def delete(self, name: str) -> None:
        self._folder.delete(name)
