"""A Ray of this machine alone: on loopback, started within a time limit, tried twice."""

import logging
import os
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import psutil

from pipeline.runtime.environment import WORKER_SETUP, set_local_environment

# Ray itself gives up on a node after 30 s, and on some other waits never.
LIMIT_SECONDS = (90.0, 180.0)
PAUSE_SECONDS = 15.0
# After its processes have been killed, Ray's own client has so long to notice.
GRACE_SECONDS = 15.0

# The path of a Unix socket holds 107 bytes. Below its temporary folder Ray uses at most
# len("/ray/session_2026-01-01_00-00-00_000000_4194304/sockets/plasma_store") of them.
SOCKET_BYTES, RAY_BYTES = 107, 68


class RayStartError(RuntimeError):
    """Ray does not start on this machine; the message says why, and the cure."""


def start_local_ray() -> None:
    """Start Ray in this process, on all CPUs and GPUs; no port is open to the network.

    Raises:
        RayStartError: the temporary folder's name is too long, or Ray failed twice.
    """
    _check_temporary_folder()
    set_local_environment()
    problem = _try_to_start(LIMIT_SECONDS[0])
    if problem is not None:
        time.sleep(PAUSE_SECONDS)
        problem = _try_to_start(LIMIT_SECONDS[1])
    if problem is not None:
        raise RayStartError(_why_not(problem))


def _try_to_start(limit_seconds: float) -> str | None:
    """Start Ray; what went wrong, or None."""
    import ray

    try:
        with _time_limit(limit_seconds):
            ray.init(
                address="local",
                include_dashboard=False,
                runtime_env={"worker_process_setup_hook": WORKER_SETUP},
                log_to_driver=False,
                logging_level=logging.WARNING,
            )
    except Exception as error:  # noqa: BLE001 - Ray has no common class for a failed start
        ray.shutdown()
        return next(iter(str(error).strip().splitlines()), type(error).__name__)
    return None


@contextmanager
def _time_limit(limit_seconds: float) -> Iterator[None]:
    """Let the block fail when it takes too long: kill the processes that it started.

    A block that goes on without them cannot be interrupted: then this process ends, with a message.
    """
    finished = threading.Event()
    earlier = set(psutil.Process().children())

    def watch() -> None:
        if finished.wait(limit_seconds):
            return
        for child in set(psutil.Process().children()) - earlier:
            _kill(child)
        if not finished.wait(GRACE_SECONDS):
            print(_why_not("it does not answer"), file=sys.stderr, flush=True)  # noqa: T201
            os._exit(1)

    threading.Thread(target=watch, name="ray-start-limit", daemon=True).start()
    try:
        yield
    finally:
        finished.set()


def _kill(process: psutil.Process) -> None:
    """Kill a process and its descendants."""
    with suppress(psutil.NoSuchProcess):
        children = process.children()
        process.kill()
        for child in children:
            _kill(child)


def _temporary_folder() -> str:
    """The folder that Ray puts its sockets and logs below; TMPDIR counts on Linux alone."""
    names = ("RAY_TMPDIR", "TMPDIR") if sys.platform == "linux" else ("RAY_TMPDIR",)
    return next((os.environ[name] for name in names if name in os.environ), "/tmp")  # noqa: S108


def _check_temporary_folder() -> None:
    folder = _temporary_folder()
    if len(os.fsencode(folder)) > SOCKET_BYTES - RAY_BYTES:
        raise RayStartError(
            f"Ray cannot put its sockets below the temporary folder {folder}: the path of a Unix "
            f"socket holds {SOCKET_BYTES} bytes, of which Ray needs {RAY_BYTES}. Set RAY_TMPDIR to a "
            f"folder of at most {SOCKET_BYTES - RAY_BYTES} bytes, such as /tmp"
        )


def _why_not(problem: str) -> str:
    folder = _temporary_folder()
    free = psutil.virtual_memory().available / 1e9
    return (
        f"Ray did not start on this machine ({problem}). The load is {os.getloadavg()[0]:.1f} on "
        f"{os.cpu_count()} CPUs, {free:.1f} GB of memory are free, and the temporary folder is "
        f"{folder} ({len(os.fsencode(folder))} of at most {SOCKET_BYTES - RAY_BYTES} bytes). Close "
        "other programs or wait until the machine is less busy, and give the same command again; "
        f"Ray's own logs are in {folder}/ray/session_latest/logs"
    )
