"""The environment of Ray's workers, here and on a cluster."""

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pipeline

WORKER_SETUP = "pipeline.runtime.worker_setup.set_up_worker"

# How long a stopped job may take to close its files and its MLflow runs; Ray's default is 3 s.
STOP_SECONDS = 60

# Stages report their own progress; Ray's messages below a warning are in its log folder.
QUIET = {
    "RAY_USAGE_STATS_ENABLED": "0",
    # The driver prints no line of Ray's daemons, such as that a worker or a node has died: the
    # scheduler reports that itself. Ray reads this when it is imported.
    "RAY_DEDUP_LOGS_SKIP_REGEX": ".",
    "RAY_DATA_DISABLE_PROGRESS_BARS": "1",
    "RAY_DATA_LOG_LEVEL": "WARNING",
    # It would send what training prints a second time, through the log.
    "RAY_TRAIN_ENABLE_PRINT_PATCH": "0",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    # Paths in a config are relative to the folder the command was given in, for workers too.
    "RAY_CHDIR_TO_TRIAL_DIR": "0",
    # What has reserved no GPU sees none, and computes on the CPU as it has reserved.
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "1",
}

# By default glibc returns each large array to the system and takes the next one page by page, zeroed:
# an eighth of a model's time on two CPU cores. Large pages and memory that is kept make it a fortieth.
# One arena, since only the first can keep arrays of more than 64 MB.
TUNABLES = (
    "glibc.malloc.hugetlb=1",
    "glibc.malloc.arena_max=1",
    "glibc.malloc.mmap_threshold=1073741824",
    "glibc.malloc.trim_threshold=8589934592",
)
ALLOCATOR = {"GLIBC_TUNABLES": ":".join(TUNABLES)}

LOCAL = {
    **QUIET,
    **ALLOCATOR,
    # No cloud provider can reclaim a node of a local Ray.
    "RAY_TRAIN_ENABLE_PREEMPTION_WATCHER": "0",
}

# What Ray reads when it is imported: that it listens on 127.0.0.1 alone, as there are no clusters of
# several machines, on Linux too; and that it checks a token, which it would also announce otherwise.
AT_IMPORT = {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0", "RAY_AUTH_MODE": "token"}

# How a cluster's workers reach the same S3 as the driver. No keys: the dashboard shows a runtime
# environment, and nodes have credentials or a role of their own.
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


def project_folder() -> Path:
    """The folder that holds the project's packages: its checkout, or where it was installed."""
    return Path(pipeline.__file__).resolve().parent.parent


def project_modules() -> list[str]:
    """The folders of the project's packages, for workers that have no checkout of it."""
    return [str(project_folder() / name) for name in ("pipeline", "tasks")]


def cluster_environment() -> dict[str, str]:
    """The variables for workers of a cluster: less output, kept memory, and this process's S3."""
    return {**QUIET, **ALLOCATOR, **{name: os.environ[name] for name in S3 if name in os.environ}}


def job_environment(tracking_uri: str | None) -> dict[str, Any]:
    """The runtime environment of a job; the dashboard shows it to everybody who can open it.

    `tracking_uri` is that of an MLflow server; None leaves it to the nodes.
    """
    variables = {**cluster_environment(), "RAY_JOB_STOP_WAIT_TIME_S": str(STOP_SECONDS)}
    if tracking_uri is not None:
        variables["MLFLOW_TRACKING_URI"] = tracking_uri
    return {"env_vars": variables, "worker_process_setup_hook": WORKER_SETUP}


def set_environment(variables: Mapping[str, str]) -> None:
    """Set `variables` for this process and its workers; what the user has set stays."""
    for name, value in variables.items():
        os.environ.setdefault(name, value)


def set_local_environment() -> None:
    """Set what workers of a local Ray inherit; what the user has set stays."""
    # Once Ray is imported, workers would disagree with this process.
    set_environment(LOCAL if "ray" in sys.modules else {**LOCAL, **AT_IMPORT})
    paths = [str(project_folder()), str(Path.cwd()), os.environ.get("PYTHONPATH", "")]
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, dict.fromkeys(paths)))
