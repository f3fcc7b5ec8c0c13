"""The process that works on something in the storage, as others can recognise and name it."""

import json
import os
import shlex
import socket
import sys
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from pipeline.redaction import redact

# What tells machines of one name apart, and containers on one machine, which count processes anew.
_BOOT = Path("/proc/sys/kernel/random/boot_id")
_PROCESSES = Path("/proc/self/ns/pid")


@dataclass(frozen=True)
class Owner:
    """A process by number, its machine, its command, and its job if it is one.

    `machine` tells whether the number means anything here; `host` is its name for people.
    """

    pid: int
    host: str
    machine: str
    command: str
    job: str = ""

    @classmethod
    def this_process(cls) -> "Owner":
        return cls(os.getpid(), socket.gethostname(), _machine(), redact(command_line()), _job())

    def __str__(self) -> str:
        host = "this machine" if self.machine == _machine() else self.host
        process = f"process {self.pid} on {host}"
        return f"job {self.job} ({process})" if self.job else f"{process} ({self.command})"

    def has_ended(self) -> bool:
        """Whether the process is known to have ended; nobody knows of another machine's."""
        if self.machine != _machine():
            return False
        try:
            # One whose parent has not asked how it ended still has its number.
            return psutil.Process(self.pid).status() == psutil.STATUS_ZOMBIE
        except psutil.NoSuchProcess:
            return True


def command_line() -> str:
    """This process's command, as a user would give it."""
    return shlex.join(["python", "-m", "pipeline", *sys.argv[1:]])


def _machine() -> str:
    parts = [socket.gethostname()]
    with suppress(OSError):
        parts += [_BOOT.read_text().strip(), str(_PROCESSES.readlink())]
    return " ".join(parts)


def _job() -> str:
    """The submission id of the Ray job that this process is the driver of, if it is one."""
    settings: Any = json.loads(os.environ.get("RAY_JOB_CONFIG_JSON_ENV_VAR", "{}"))
    return str(settings.get("metadata", {}).get("job_submission_id", ""))
