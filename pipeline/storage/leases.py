"""Leases: while one run makes an output, another one waits for it.

A lease is a file, `leases/<stage>-<digest>.<term>.json` in the storage, which names its owner. The
file of the highest term counts. A run takes a lease by creating the file of the next term, which
can be done once, and keeps it by writing the file again every few seconds. Another run takes over
when the owner's process has ended on the same machine, or when the file has not changed for a
minute of its own clock; no clocks are compared. At the end the owner deletes the file.

What can go wrong costs time and no results:

- An owner that is alive but cannot be heard (stopped, swapped out, cut off from the storage) loses
  its lease. As soon as its driver can see that, within one heartbeat, it cancels its work and waits.
  Until then two processes write. Files appear complete or not at all, and what they hold depends
  on the digest alone, so two writers of a file write the same, as far as a machine's arithmetic
  repeats. Of a folder that both replace, one's is kept. A checkpoint is named after its step, and
  either goes on from it.
- The former owner writes no manifest: it looks at its lease before. If it is stalled between that
  look and the manifest, the output counts as complete while the other still works. The other's
  manifest then takes its place, with the checksums of what is there.
- Only if a driver stands still for as long as the other needs for the whole stage, while its workers
  go on, do these write into a complete output. `verify` finds what differs.
- A store that ignores or refuses "create, do not replace" may give one lease to two runs that ask
  in the same moment. Each reads the file after it has written it, and at every heartbeat: one gives
  up.
- A file that is left although nobody works delays others by a minute.
"""

import errno
import json
import math
import threading
import time
import uuid
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass
from types import TracebackType
from typing import Any, Self

from pipeline.storage.artifacts import Artifact
from pipeline.storage.atomic import is_local
from pipeline.storage.failures import http_status
from pipeline.storage.owner import Owner

LEASES = "leases"
BEAT_SECONDS = 10.0
# How long an owner may be silent.
STALE_SECONDS = 60.0
# How often a lease of another is looked at. After a pause of this process, the waiting starts anew:
# it may have slept as long as the owner.
LOOK_SECONDS = 2.0
PAUSE_SECONDS = 30.0

Clock = Callable[[], float]


@dataclass(frozen=True)
class Held:
    """A lease's newest file. Its owner is unknown if it is damaged, or not yet written."""

    term: int
    content: bytes

    @property
    def record(self) -> dict[str, Any]:
        try:
            return dict(json.loads(self.content))
        except (ValueError, TypeError):
            return {}

    @property
    def owner(self) -> Owner | None:
        try:
            return Owner(**self.record["owner"])
        except (KeyError, TypeError):
            return None

    def __str__(self) -> str:
        return str(self.owner or "another run")


@dataclass(frozen=True)
class Claim:
    """What one run claims: an output's lease. Any of its processes can ask whether it still stands."""

    folder: Artifact
    prefix: str
    token: str

    @classmethod
    def to(cls, output: Artifact) -> "Claim":
        storage, stage, digest = output.uri.rsplit("/", 2)
        return cls(Artifact(f"{storage}/{LEASES}"), f"{stage}-{digest}.", uuid.uuid4().hex)

    def stands(self) -> bool:
        """Whether nobody else has taken the lease meanwhile."""
        newest = self.newest()
        return newest is None or self.is_of(newest)

    def is_of(self, held: Held) -> bool:
        return held.record.get("token") == self.token

    def newest(self) -> Held | None:
        """The file that counts; None if nobody holds the lease."""
        for name in reversed(self.files()):
            with suppress(FileNotFoundError):  # deleted since it was listed
                term = int(name.removeprefix(self.prefix).removesuffix(".json"))
                return Held(term, self.folder.filesystem.cat_file(self.folder.path(name)))
        return None

    def files(self) -> list[str]:
        """The lease's files, in the order of their terms."""
        return [name for name in self.folder.names() if name.startswith(self.prefix)]

    def file(self, term: int) -> str:
        return f"{self.prefix}{term:06d}.json"


class Pulse:
    """Whether the owner of a lease may live, by what this process sees of it."""

    def __init__(self, clock: Clock = time.monotonic) -> None:
        self._clock = clock
        self._seen: Held | None = None
        self._since = self._looked = -math.inf

    @property
    def age(self) -> float:
        """The seconds since the last look."""
        return self._clock() - self._looked

    def why_dead(self, held: Held) -> str:
        """Why the owner is taken for dead; empty if it is not."""
        if self._seen != held or self.age > PAUSE_SECONDS:
            self._since = self._clock()
        self._seen, self._looked = held, self._clock()
        if held.owner is not None and held.owner.has_ended():
            return "which has ended"
        silent = self._looked - self._since
        return f"of which nothing was heard for {silent:.0f} s" if silent >= STALE_SECONDS else ""


def is_being_made(output: Artifact, pulse: Pulse | None = None) -> bool:
    """Whether a run holds the output's lease and may live, as far as can be seen from here.

    That a run on another machine is silent, only a `pulse` that is kept from look to look can tell.
    """
    held = Claim.to(output).newest()
    return held is not None and not (pulse or Pulse()).why_dead(held)


class Lease:
    """The right to make one output.

    Attributes:
        claim: ours, which may stand or not.
        is_held: it stood at the last heartbeat.
        is_lost: it has stood, and another's stands now.
        holder: whose it is otherwise, for people.
        taken_from: whom it was taken from and why, for people.
    """

    def __init__(self, output: Artifact, owner: Owner, clock: Clock = time.monotonic) -> None:
        self.claim = Claim.to(output)
        self._owner = owner
        self._clock = clock
        self._term, self._heartbeats = 0, 0
        self._pulse = Pulse(clock)
        self._lock = threading.Lock()
        self.is_held = self.is_lost = False
        self.holder = self.taken_from = ""

    def take(self) -> bool:
        """Whether it is ours now; another's lease is looked at no more often than is useful.

        Raises:
            OSError: the storage cannot tell.
        """
        with self._lock:
            if not self.is_held and self._pulse.age >= LOOK_SECONDS:
                self._try_to_take(self.claim.newest())
            return self.is_held

    def beat(self) -> None:
        """Show that the owner lives; notice if the lease is another's."""
        with self._lock:
            if self._still_held():
                self._heartbeats += 1
                self.claim.folder.write_json(self.claim.file(self._term), self._record())

    def release(self) -> None:
        """Let another take it; a file that cannot be deleted makes it wait for a minute."""
        with self._lock:
            with suppress(OSError):
                if self._still_held():
                    self.claim.folder.delete(self.claim.file(self._term))
            self.is_held = False

    def _try_to_take(self, held: Held | None) -> None:
        if held is None or self.claim.is_of(held):
            self._create(held.term + 1 if held else 1, "")
        elif why := self._pulse.why_dead(held):
            self._create(held.term + 1, f"{held}, {why}")
        else:
            self.holder = str(held)

    def _create(self, term: int, taken_from: str) -> None:
        """Begin the lease's next term, unless another is quicker."""
        claim = self.claim
        _create(claim.folder, claim.file(term), json.dumps(self._record()).encode())
        newest = claim.newest()
        self._pulse = Pulse(self._clock)
        if newest is None or not claim.is_of(newest):
            self.holder = str(newest or "another run")
            if newest is not None and newest.term > term:
                claim.folder.delete(claim.file(term))
            return
        self.is_held, self.is_lost, self._term, self.taken_from = True, False, term, taken_from
        for name in claim.files()[:-1]:
            claim.folder.delete(name)

    def _still_held(self) -> bool:
        newest = self.claim.newest() if self.is_held else None
        if newest is not None and not self.claim.is_of(newest):
            self.is_held, self.is_lost = False, True
        return self.is_held

    def _record(self) -> dict[str, Any]:
        heard = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        record = {"owner": asdict(self._owner), "token": self.claim.token}
        return {**record, "heartbeats": self._heartbeats, "heard": heard}


class Leases:
    """The leases of one run, kept alive by a thread for the length of a `with` block."""

    def __init__(self, owner: Owner, beat_seconds: float = BEAT_SECONDS) -> None:
        self._owner = owner
        self._beat_seconds = beat_seconds
        self._leases: dict[str, Lease] = {}
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._beat, name="heartbeat", daemon=True)

    def of(self, output: Artifact) -> Lease:
        """The lease of an output, taken or not."""
        if output.uri not in self._leases:
            self._leases[output.uri] = Lease(output, self._owner)
        return self._leases[output.uri]

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        _kind: type[BaseException] | None,
        _error: BaseException | None,
        _traceback: TracebackType | None,
    ) -> None:
        self._over.set()
        for lease in self._leases.values():
            lease.release()

    def _beat(self) -> None:
        while not self._over.wait(self._beat_seconds):
            for lease in list(self._leases.values()):
                with suppress(Exception):  # the next heartbeat may get through
                    lease.beat()


def _create(folder: Artifact, name: str, content: bytes) -> None:
    """Write a file that is not there, and leave one that is, as far as the storage can do so."""
    filesystem, path = folder.filesystem, folder.path(name)
    if is_local(filesystem):
        filesystem.makedirs(folder.path(), exist_ok=True)
        with suppress(FileExistsError), filesystem.open(path, "xb") as file:
            file.write(content)
        return
    try:
        filesystem.pipe_file(path, content, mode="create")
    except FileExistsError:
        pass
    except OSError as error:
        if error.errno == errno.ENOSYS:  # the store has no such request
            filesystem.pipe_file(path, content)
        elif http_status(error) != 409:  # another writes it in this moment
            raise
