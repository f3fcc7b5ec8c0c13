"""A Ray for the length of a command: this machine's own, or a cluster that stands."""

import logging
import os
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

from pipeline.config import Cluster
from pipeline.runtime.environment import (
    QUIET,
    WORKER_SETUP,
    cluster_environment,
    project_modules,
    set_environment,
)
from pipeline.runtime.local_ray import start_local_ray

ANSWER_SECONDS = 10.0

HOW_TO_AUTHENTICATE = (
    "set RAY_AUTH_MODE=token, and RAY_AUTH_TOKEN_PATH to a file with the cluster's token (or "
    "RAY_AUTH_TOKEN to the token, or write it to ~/.ray/auth_token)"
)


class ClusterError(RuntimeError):
    """A cluster cannot be used; the message says which one, why, and the cure."""


@contextmanager
def ray_session(cluster: Cluster) -> Iterator[str]:
    """Ray for the length of the block: a cluster by address, or this machine's CPUs and GPUs.

    Yields a line about GPUs that it has and nothing will use; mostly there is nothing to say.

    `cluster.address` wins over `RAY_ADDRESS`. A Ray that already runs in this process is used
    and left running. For a local Ray to stay on loopback, nothing may import ray before.

    Raises:
        ClusterError: no cluster answers at the address, or it refuses the token.
        RayStartError: a local Ray does not start.
    """
    address = cluster.address or os.environ.get("RAY_ADDRESS")
    if _is_running():
        yield ""
        return
    if address:
        _join(address)
    else:
        start_local_ray()
    import ray

    try:
        yield _idle_gpus(cluster, ray.cluster_resources().get("GPU", 0))
    finally:
        ray.shutdown()


def _idle_gpus(cluster: Cluster, num_gpus: float) -> str:
    if not num_gpus or cluster.gpus_per_worker:
        return ""
    return (
        f"Ray has {num_gpus:g} GPU{'s' * (num_gpus != 1)}, and cluster.gpus_per_worker is 0, so everything "
        "is computed on CPUs: --set cluster.gpus_per_worker=1 uses them"
    )


def _is_running() -> bool:
    ray = sys.modules.get("ray")
    return ray is not None and ray.is_initialized()


def _join(address: str) -> None:
    _require_answer(os.environ.get("RAY_ADDRESS", address) if address == "auto" else address)
    set_environment(QUIET)
    import ray

    try:
        ray.init(
            address=address,
            runtime_env=_runtime_env(),
            log_to_driver=False,
            logging_level=logging.WARNING,
        )
    except (ConnectionError, ray.exceptions.AuthenticationError) as error:
        reason = getattr(error, "message", error)  # without the help that Ray appends
        raise ClusterError(
            f"the Ray cluster at {address} rejects this process ({reason}). If it asks for a token, "
            f"{HOW_TO_AUTHENTICATE}; otherwise check cluster.address and RAY_ADDRESS"
        ) from error


def _require_answer(address: str) -> None:
    """Fail within seconds where no cluster answers: Ray itself would try for minutes.

    Raises:
        ClusterError: nothing answers, or the address is not that of a cluster.
    """
    if address == "auto" or address.startswith("ray://"):
        return
    host, _, port = address.rpartition(":")
    if "/" in address or not host or not port.isdecimal():
        raise ClusterError(
            f"'{address}' is not the address of a Ray cluster: cluster.address and RAY_ADDRESS take "
            "host:port (of the head, 6379 by default) or auto; a dashboard's http://… takes jobs "
            "(python -m pipeline submit)"
        )
    require_listener(address, "cluster.address and RAY_ADDRESS")


def require_listener(address: str, setting: str = "--address") -> None:
    """Try to connect to `address` (host:port, or http://…) for a few seconds.

    Raises:
        ClusterError: nothing listens there; `setting` is what the user should check.
    """
    url = urlsplit(address if "://" in address else f"//{address}")
    try:
        port = url.port or (443 if url.scheme == "https" else 80)
        socket.create_connection((url.hostname or "", port), timeout=ANSWER_SECONDS).close()
    except (OSError, ValueError) as error:  # a port may be too large, a name malformed
        raise ClusterError(
            f"no Ray cluster answers at {address} ({error}): check {setting}, that the cluster runs, "
            "and that this machine can reach it"
        ) from error


def _runtime_env() -> dict[str, Any]:
    """What a cluster's workers need; a job brings its own code and needs none of it."""
    if "RAY_JOB_CONFIG_JSON_ENV_VAR" in os.environ:
        return {}
    return {
        "py_modules": project_modules(),
        "env_vars": cluster_environment(),
        "worker_process_setup_hook": WORKER_SETUP,
    }
