"""Start Ray on this machine, or join a cluster, so that workers find the project and stay quiet."""

import logging
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import ray

import pipeline
from pipeline.config import Cluster

# How far a stage is, it says itself; what Ray says below a warning is in its session's log folder.
QUIET = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_DATA_DISABLE_PROGRESS_BARS": "1",
    "RAY_DATA_LOG_LEVEL": "WARNING",
    # It sends what training prints a second time, through the log.
    "RAY_TRAIN_ENABLE_PRINT_PATCH": "0",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    # Paths in a config are relative to the folder the command was given in, for workers too.
    "RAY_CHDIR_TO_TRIAL_DIR": "0",
    # Ray warns of a coming change in how it hides GPUs from tasks that asked for none.
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
}

# glibc gets each large array from the system page by page, zeroed, and gives it back when it goes,
# which took a model on two CPU cores an eighth of its time, and takes a fortieth so: large pages, and
# memory that is kept. One arena, since only the first can keep arrays of more than 64 MB.
TUNABLES = (
    "glibc.malloc.hugetlb=1",
    "glibc.malloc.arena_max=1",
    "glibc.malloc.mmap_threshold=1073741824",
    "glibc.malloc.trim_threshold=8589934592",
)
ALLOCATOR = {"GLIBC_TUNABLES": ":".join(TUNABLES)}

# A local Ray has no nodes that a provider could take away.
LOCAL = {**QUIET, **ALLOCATOR, "RAY_TRAIN_ENABLE_PREEMPTION_WATCHER": "0"}

# How a cluster's workers reach the same S3 as the driver. No keys: a runtime environment is shown
# on the dashboard, and nodes have credentials or a role of their own.
S3 = (
    "AWS_REGION",
    "AWS_DEFAULT_REGION",
    "AWS_ENDPOINT_URL",
    "AWS_ENDPOINT_URL_S3",
    "AWS_MAX_ATTEMPTS",
    "AWS_RETRY_MODE",
    "AWS_REQUEST_CHECKSUM_CALCULATION",
    "AWS_RESPONSE_CHECKSUM_VALIDATION",
)

ANSWER_SECONDS = 10.0

WORKER_SETUP = "pipeline.runtime.worker_setup.set_up_worker"

# Which token a cluster asks for, and where Ray looks for it.
HOW_TO_ENTER = (
    "set RAY_AUTH_MODE=token, and RAY_AUTH_TOKEN_PATH to a file with the cluster's token (or "
    "RAY_AUTH_TOKEN to the token, or put it into ~/.ray/auth_token)"
)


class ClusterError(RuntimeError):
    """A cluster cannot be used; the message says which one, why, and the cure."""


@contextmanager
def ray_session(cluster: Cluster) -> Iterator[None]:
    """Ray for the length of the block: a cluster by address, or this machine's CPUs and GPUs.

    `cluster.address` wins over `RAY_ADDRESS`. A Ray that already runs in this process is used
    and left running.

    Raises:
        ClusterError: no cluster answers at the address, or it refuses the token.
    """
    if ray.is_initialized():
        yield
        return
    address = cluster.address or os.environ.get("RAY_ADDRESS")
    if address:
        _join(address)
    else:
        _set_local_environment()
        # That a local Ray guards itself with a token is no news to its only user.
        logging.getLogger("ray._private.authentication").setLevel(logging.ERROR)
        ray.init(
            address="local",
            include_dashboard=False,
            runtime_env={"worker_process_setup_hook": WORKER_SETUP},
            log_to_driver=True,
            logging_level=logging.WARNING,
        )
    try:
        yield
    finally:
        ray.shutdown()


def project_modules() -> list[str]:
    """The folders of the project's packages, for workers that have no checkout of it."""
    folder = project_folder()
    return [str(folder / name) for name in ("pipeline", "tasks")]


def project_folder() -> Path:
    """Where the project's packages lie: its checkout, or where it was installed."""
    return Path(pipeline.__file__).resolve().parent.parent


def cluster_environment() -> dict[str, str]:
    """The variables that workers of a cluster get: quiet, memory, and the way to this process's S3."""
    return {**QUIET, **ALLOCATOR, **{name: os.environ[name] for name in S3 if name in os.environ}}


def _join(address: str) -> None:
    _require_answer(os.environ.get("RAY_ADDRESS", address) if address == "auto" else address)
    try:
        ray.init(
            address=address,
            runtime_env=_runtime_env(),
            log_to_driver=True,
            logging_level=logging.WARNING,
        )
    except (ConnectionError, ray.exceptions.AuthenticationError) as error:
        said = getattr(error, "message", error)  # without the help that Ray puts behind it
        raise ClusterError(
            f"the Ray cluster at {address} does not let this process in ({said}). Where it asks for a "
            f"token, {HOW_TO_ENTER}; otherwise check cluster.address and RAY_ADDRESS"
        ) from error


def _require_answer(address: str) -> None:
    """Find out in seconds that nobody is there: Ray itself would try for minutes.

    Raises:
        ClusterError: nothing answers, or it is no address of a cluster.
    """
    if address == "auto" or address.startswith("ray://"):
        return
    host, _, port = address.rpartition(":")
    if "/" in address or not host or not port.isdecimal():
        raise ClusterError(
            f"'{address}' is not where one joins a Ray cluster: cluster.address and RAY_ADDRESS take "
            "host:port (of the head, 6379 by default) or auto; a dashboard's http://… takes jobs "
            "(python -m pipeline submit)"
        )
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=ANSWER_SECONDS).close()
    except OSError as error:
        raise ClusterError(
            f"no Ray cluster answers at {address} ({error}): check cluster.address and RAY_ADDRESS, "
            "that the cluster runs, and that this machine may reach it"
        ) from error


def _set_local_environment() -> None:
    """Local workers inherit this process's environment; what the user has set stands."""
    for name, value in LOCAL.items():
        os.environ.setdefault(name, value)
    paths = [str(project_folder()), str(Path.cwd()), os.environ.get("PYTHONPATH", "")]
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, dict.fromkeys(paths)))


def _runtime_env() -> dict[str, Any]:
    """What a cluster's workers need; a job that brings its own code needs none of it."""
    if "RAY_JOB_CONFIG_JSON_ENV_VAR" in os.environ:
        return {}
    return {
        "py_modules": project_modules(),
        "env_vars": cluster_environment(),
        "worker_process_setup_hook": WORKER_SETUP,
    }
