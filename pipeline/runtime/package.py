"""What a job brings to a cluster: the current folder, the project's packages, a few variables.

No secrets: the dashboard shows a job's runtime environment to everybody who can open it.
"""

import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pathspec import PathSpec

from pipeline.config import ConfigError
from pipeline.graph.disk_space import readable_bytes
from pipeline.redaction import redact
from pipeline.runtime.environment import (
    WORKER_SETUP,
    cluster_environment,
    project_folder,
    project_modules,
)

# Written like .gitignore. Ray applies these patterns to `pipeline` and `tasks` too where those are sent
# on their own, so a pattern for the current folder alone begins with a slash.
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

PATTERNS = "gitignore"

# The largest request that a dashboard accepts, and a zip file's overhead for each small file.
MAX_PACKAGE_BYTES = 100 * 1024**2
ENTRY_BYTES = 256
NAMED_ENTRIES = 5

# How long a stopped run may take to close its files and its MLflow runs; Ray's default is 3 s.
STOP_SECONDS = 60


@dataclass(frozen=True)
class Package:
    """What is sent: the files of `folder` (name -> bytes), and the job's runtime environment."""

    folder: Path
    files: Mapping[str, int]
    runtime_env: Mapping[str, Any]

    @classmethod
    def of(cls, folder: Path, storage: str, tracking_uri: str | None) -> "Package":
        """Everything in `folder` except what no job reads, and the project if it is elsewhere.

        Args:
            folder: becomes the job's current folder.
            storage: is left out if it is inside `folder`.
            tracking_uri: of an MLflow server; None leaves it to the nodes.

        Raises:
            ConfigError: the package is larger than a dashboard accepts, or would show a secret.
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
        files = sent_files(folder, excludes)
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
        """Whether the file `name`, or any file in the folder `name`, is sent."""
        in_folder = any(file.startswith(f"{name}/") for file in self.files)
        return name in self.files or name == "." or in_folder


def sent_files(folder: Path, excludes: Sequence[str]) -> dict[str, int]:
    """The names and bytes of the files that Ray packs of `folder`.

    Like Ray, this leaves out what `excludes` names, and what .gitignore and .rayignore files at any
    depth name.
    """
    files: dict[str, int] = {}
    folders = [(folder, [(folder, PathSpec.from_lines(PATTERNS, excludes))])]
    while folders:
        current, outer_rules = folders.pop()
        rules = [*outer_rules, *_ignore_rules(current)]
        for path in current.iterdir():
            if any(spec.match_file(path.relative_to(root).as_posix()) for root, spec in rules):
                continue
            if path.is_dir():
                folders.append((path, rules))
            elif path.is_file():
                files[path.relative_to(folder).as_posix()] = path.stat().st_size
    return files


def _ignore_rules(folder: Path) -> Iterator[tuple[Path, PathSpec[Any]]]:
    """The rules of the ignore files in `folder`, each with the folder that it counts from."""
    names = [".rayignore"]
    if os.environ.get("RAY_RUNTIME_ENV_IGNORE_GITIGNORE") != "1":
        names.append(".gitignore")
    for file in (folder / name for name in names):
        if file.is_file():
            yield folder, PathSpec.from_lines(PATTERNS, file.read_text().splitlines())


def _inside(folder: Path, storage: str) -> list[str]:
    path = Path(storage)
    return [f"/{path.relative_to(folder).as_posix()}"] if folder in path.parents else []


def _require_no_secret(variables: Mapping[str, str]) -> None:
    for name, value in variables.items():
        if redact(value) != value:
            raise ConfigError(
                f"{name} contains a user, password or key, which the dashboard would show with the "
                "job: remove it here, and set it on the nodes (MLFLOW_TRACKING_USERNAME and "
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
        f"{folder} would be sent with the job. It has {readable_bytes(needed)}, and a dashboard "
        f"accepts {readable_bytes(MAX_PACKAGE_BYTES)}. Largest: {largest}. List what the job does not "
        "read in .rayignore (written like .gitignore), move data to an object store or a shared "
        "folder, or submit from a smaller folder"
    )
