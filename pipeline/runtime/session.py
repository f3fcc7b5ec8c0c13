"""Start Ray on this machine, or join a cluster, so that workers find the project and stay quiet."""

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

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

# A local Ray has no nodes that a provider could take away.
LOCAL = {**QUIET, "RAY_TRAIN_ENABLE_PREEMPTION_WATCHER": "0"}

# What a cluster's workers need to reach the same S3 as the driver. A profile or a file of
# credentials is of this machine: nodes have their own, or a role.
S3 = (
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
    "AWS_REGION",
    "AWS_DEFAULT_REGION",
    "AWS_ENDPOINT_URL",
    "AWS_ENDPOINT_URL_S3",
    "AWS_MAX_ATTEMPTS",
    "AWS_RETRY_MODE",
    "AWS_REQUEST_CHECKSUM_CALCULATION",
    "AWS_RESPONSE_CHECKSUM_VALIDATION",
)

QUIET_WORKER = "pipeline.runtime.quiet.quiet_worker"


@contextmanager
def ray_session(cluster: Cluster) -> Iterator[None]:
    """Ray for the length of the block: a cluster by address, or this machine's CPUs and GPUs.

    `cluster.address` wins over `RAY_ADDRESS`. A Ray that already runs in this process is used
    and left running.

    Raises:
        ConnectionError: no cluster answers at the address.
    """
    if ray.is_initialized():
        yield
        return
    address = cluster.address or os.environ.get("RAY_ADDRESS")
    if address:
        ray.init(
            address=address,
            runtime_env=_runtime_env(),
            log_to_driver=True,
            logging_level=logging.WARNING,
        )
    else:
        _set_local_environment()
        # That a local Ray guards itself with a token is no news to its only user.
        logging.getLogger("ray._private.authentication").setLevel(logging.ERROR)
        ray.init(
            address="local",
            include_dashboard=False,
            runtime_env={"worker_process_setup_hook": QUIET_WORKER},
            log_to_driver=True,
            logging_level=logging.WARNING,
        )
    try:
        yield
    finally:
        ray.shutdown()


def _project_folder() -> Path:
    return Path(pipeline.__file__).resolve().parent.parent


def _set_local_environment() -> None:
    """Local workers inherit this process's environment; what the user has set stands."""
    for name, value in LOCAL.items():
        os.environ.setdefault(name, value)
    paths = [str(_project_folder()), str(Path.cwd()), os.environ.get("PYTHONPATH", "")]
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, dict.fromkeys(paths)))


def _runtime_env() -> dict[str, object]:
    """What a cluster's workers need; a job that brings its own code needs none of it."""
    if "RAY_JOB_CONFIG_JSON_ENV_VAR" in os.environ:
        return {}
    packages = [str(_project_folder() / name) for name in ("pipeline", "tasks")]
    environment = {name: os.environ[name] for name in S3 if name in os.environ}
    return {"py_modules": packages, "env_vars": {**QUIET, **environment}}
