"""Following a log on a display: what has come, no more often than is cheap."""

import time
from typing import Self

from pipeline.log.read_log import Entry, LogReader
from pipeline.progress import Report
from pipeline.storage.artifacts import Artifact, ArtifactError

# Of a storage that takes long to read, one that follows its logs must not only read.
READ_SHARE = 0.05


class Follower:
    """The reports and messages of one stage's log."""

    def __init__(self, output: Artifact) -> None:
        self._reader = LogReader(output)
        self._due = 0.0

    @classmethod
    def of_what_comes(cls, output: Artifact) -> Self:
        """Leaves out what the log has already."""
        follower = cls(output)
        follower.rest()
        return follower

    def poll(self) -> list[Report | str]:
        """What has come, or nothing if the storage was asked only just now."""
        return self.rest() if time.monotonic() >= self._due else []

    def rest(self) -> list[Report | str]:
        """The messages, and the last report, that have come; nothing if they cannot be read."""
        started = time.monotonic()
        try:
            return shown(self._reader.new())
        except (ArtifactError, OSError, ValueError):
            return []
        finally:
            ended = time.monotonic()
            self._due = ended + (ended - started) / READ_SHARE


def shown(entries: list[Entry]) -> list[Report | str]:
    """All messages, then the last report."""
    messages: list[Report | str] = [each["message"] for each in entries if "message" in each]
    reports = [each["report"] for each in entries if "report" in each]
    return [*messages, *(Report(**each) for each in reports[-1:])]
