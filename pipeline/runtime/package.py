"""What a job takes along to a cluster: this folder, the project's packages, a few variables.

Nothing secret: the dashboard shows a runtime environment to all who may look at it.
"""

import logging
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ray._private import ray_constants
from ray._private.runtime_env import packaging

from pipeline.config import ConfigError
from pipeline.graph.disk_space import readable_bytes
from pipeline.redaction import redact
from pipeline.runtime.session import (
    WORKER_SETUP,
    cluster_environment,
    project_folder,
    project_modules,
)

# As .gitignore has it. A pattern for the folder itself begins with a slash: Ray matches them all
# within `pipeline` and `tasks` too, where those travel on their own.
SECRETS = (".aws", ".env*", ".kube", ".netrc", ".ray", ".ssh")
EXCLUDES = (
    *SECRETS,
    "/build",
    "/dist",
    "/mlflow.db*",
    "/mlruns",
    "/mlruns.db*",
    "/runs",
    "/tests",
    "*.egg-info",
    ".git",
    ".hypothesis",
    ".mypy_cache",
    ".pytest_cache",
    ".ruff_cache",
    ".venv",
    "__pycache__",
    "venv",
)

# What a dashboard takes in one request, and what a zip file writes beside a small file's bytes.
MAX_PACKAGE_BYTES = 100 * 1024**2
ENTRY_BYTES = 256
NAMED_ENTRIES = 5

# A stopped run closes what it has open; Ray would give it 3 s.
STOP_SECONDS = 60


@dataclass(frozen=True)
class Package:
    """What is sent from `folder`: its files, by name with their bytes, and how a job sees them."""

    folder: Path
    files: Mapping[str, int]
    runtime_env: Mapping[str, Any]

    @classmethod
    def of(cls, folder: Path, storage: str, tracking_uri: str | None) -> "Package":
        """Everything in `folder` but what no job reads, and the project if it lies elsewhere.

        Args:
            folder: becomes the job's current folder.
            storage: stays behind where it lies within.
            tracking_uri: of an MLflow server; None leaves it to the nodes.

        Raises:
            ConfigError: it is more than a dashboard takes, or would show a secret.
        """
        excludes = [*EXCLUDES, *_inside(folder, storage)]
        variables = {**cluster_environment(), "RAY_JOB_STOP_WAIT_TIME_S": str(STOP_SECONDS)}
        if tracking_uri is not None:
            variables["MLFLOW_TRACKING_URI"] = tracking_uri
        _require_no_secret(variables)
        runtime_env: dict[str, Any] = {
            "working_dir": ".",
            "excludes": excludes,
            "env_vars": variables,
            "worker_process_setup_hook": WORKER_SETUP,
        }
        defaults = ray_constants.get_runtime_env_default_excludes()
        files = sent_files(folder, [*defaults, *excludes])
        _require_room(folder, files)
        if folder != project_folder():
            runtime_env["py_modules"] = project_modules()
            for module in map(Path, project_modules()):
                _require_room(module, sent_files(module, excludes))
        return cls(folder, files, runtime_env)

    @property
    def num_bytes(self) -> int:
        return sum(self.files.values())

    def holds(self, name: str) -> bool:
        """Whether the file `name`, or something in the folder `name`, travels."""
        return (
            name in self.files
            or name == "."
            or any(one.startswith(f"{name}/") for one in self.files)
        )


def sent_files(folder: Path, excludes: Sequence[str]) -> dict[str, int]:
    """The names and bytes of the files that Ray packs of `folder`, by Ray's own rules.

    They count .gitignore and .rayignore files in, at any depth.
    """
    found: dict[str, int] = {}

    def note(path: Path) -> None:
        if path.is_file():
            found[path.relative_to(folder).as_posix()] = path.stat().st_size

    ignored = os.environ.get(ray_constants.RAY_RUNTIME_ENV_IGNORE_GITIGNORE) != "1"
    rules = [packaging._get_excludes(folder, list(excludes))]  # noqa: SLF001 - Ray shows no other way
    packaging._dir_travel(  # noqa: SLF001
        folder, rules, note, include_gitignore=ignored, logger=_silent()
    )
    return found


def _silent() -> logging.Logger:
    """Which ignore files Ray has read is no news."""
    logger = logging.getLogger(f"{__name__}.silent")
    logger.disabled = True
    return logger


def _inside(folder: Path, storage: str) -> list[str]:
    place = Path(storage)
    return [f"/{place.relative_to(folder).as_posix()}"] if folder in place.parents else []


def _require_no_secret(variables: Mapping[str, str]) -> None:
    for name, value in variables.items():
        if redact(value) != value:
            raise ConfigError(
                f"{name} holds a user, password or key, which the dashboard would show with the "
                "job: leave it out here, and give it to the nodes (MLFLOW_TRACKING_USERNAME and "
                "MLFLOW_TRACKING_PASSWORD, AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY)"
            )


def _require_room(folder: Path, files: Mapping[str, int]) -> None:
    needed = sum(files.values()) + ENTRY_BYTES * len(files)
    if needed <= MAX_PACKAGE_BYTES:
        return
    sizes: Counter[str] = Counter()
    for name, num_bytes in files.items():
        sizes[name.partition("/")[0]] += num_bytes
    largest = ", ".join(
        f"{name} {readable_bytes(size)}" for name, size in sizes.most_common(NAMED_ENTRIES)
    )
    raise ConfigError(
        f"{folder} would travel with the job, {readable_bytes(needed)}, and a dashboard takes "
        f"{readable_bytes(MAX_PACKAGE_BYTES)}. Largest: {largest}. Name what the job need not read "
        "in .rayignore (written like .gitignore), put data on an object store or a shared folder, "
        "or submit from a folder with less in it"
    )
