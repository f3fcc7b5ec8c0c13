"""What a job brings to a cluster: the current folder, the project's packages, a few variables.

No secrets: the dashboard shows a job's runtime environment to everybody who can open it, and every
node receives the folder.
"""

import os
import re
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
from pipeline.runtime.secret_files import holds_secret, is_within, secrets_among
from pipeline.storage.folders import printable

# Written like .gitignore. Ray applies these patterns to `pipeline` and `tasks` too where those are sent
# on their own, so a pattern for the current folder alone begins with a slash.
EXCLUDES = (
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
# Matches a byte that is not UTF-8, which a pattern cannot hold as it travels in UTF-8.
NOT_UTF_8 = "[!\x01-\ud7ff\ue000-\U0010ffff]"

# The largest request that a dashboard accepts, and a zip file's overhead for each small file.
MAX_PACKAGE_BYTES = 100 * 1024**2
ENTRY_BYTES = 256
NAMED_ENTRIES = 5

# How long a stopped run may take to close its files and its MLflow runs; Ray's default is 3 s.
STOP_SECONDS = 60


@dataclass(frozen=True)
class Package:
    """What is sent: the files of `folder` (name -> bytes), and the job's runtime environment.

    Files and folders are left out if they look like `secrets`, or are `unnamed`: not in UTF-8.
    """

    folder: Path
    files: Mapping[str, int]
    secrets: Sequence[str]
    unnamed: Sequence[str]
    runtime_env: Mapping[str, Any]

    @classmethod
    def of(
        cls, folder: Path, storage: str, tracking_uri: str | None, allowed: Sequence[str] = ()
    ) -> "Package":
        """Everything in `folder` except what no job reads, and the project if it is elsewhere.

        Args:
            folder: becomes the job's current folder.
            storage: is left out if it is inside `folder`.
            tracking_uri: of an MLflow server; None leaves it to the nodes.
            allowed: names in `folder` that are sent although they look like secrets.

        Raises:
            ConfigError: the package is larger than a dashboard accepts, or would show a secret.
        """
        excludes = [*EXCLUDES, *_inside(folder, storage)]
        unpackable = _unpackable(folder, excludes)
        excludes += map(_exactly, unpackable)
        files, secrets = _without_secrets(folder, sent_files(folder, excludes), allowed)
        excludes += map(_exactly, secrets)
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
        if folder != project_folder():
            runtime_env["py_modules"] = project_modules()
            for module in map(Path, project_modules()):
                _, found = _without_secrets(module, sent_files(module, excludes), ())
                secrets += [f"{module.name}/{name}" for name in found]
                excludes += map(_exactly, found)
        unnamed = [name for name in unpackable if not _is_utf_8(name)]
        return cls(folder, files, secrets, unnamed, runtime_env)

    @property
    def num_bytes(self) -> int:
        return sum(self.files.values())

    def holds(self, name: str) -> bool:
        """Whether the file `name`, or any file in the folder `name`, is sent."""
        return any(is_within(file, name) for file in self.files)


def sent_files(folder: Path, excludes: Sequence[str]) -> dict[str, int]:
    """The names and bytes of the files that Ray packs of `folder`.

    Like Ray, this leaves out what `excludes` names, and what .gitignore and .rayignore files at any
    depth name.
    """
    paths = (path for path in _walk(folder, excludes) if path.is_file())
    return {path.relative_to(folder).as_posix(): path.stat().st_size for path in paths}


def _walk(folder: Path, excludes: Sequence[str]) -> Iterator[Path]:
    """The files, links to a folder that they lie in, and whatever has a name that is not UTF-8."""
    rules = [(folder, PathSpec.from_lines(PATTERNS, excludes))]
    folders = [(folder, rules, frozenset({folder.resolve()}))]
    while folders:
        current, outer_rules, above = folders.pop()
        rules = [*outer_rules, *_ignore_rules(current)]
        for path in current.iterdir():
            if any(spec.match_file(path.relative_to(root).as_posix()) for root, spec in rules):
                continue
            target = path.resolve()
            if path.is_dir() and target not in above and _is_utf_8(path.name):
                folders.append((path, rules, above | {target}))
            else:
                yield path


def _ignore_rules(folder: Path) -> Iterator[tuple[Path, PathSpec[Any]]]:
    """The rules of the ignore files in `folder`, each with the folder that it counts from."""
    names = [".rayignore"]
    if os.environ.get("RAY_RUNTIME_ENV_IGNORE_GITIGNORE") != "1":
        names.append(".gitignore")
    for file in (folder / name for name in names):
        if file.is_file():
            yield folder, PathSpec.from_lines(PATTERNS, file.read_text().splitlines())


def _without_secrets(
    folder: Path, files: Mapping[str, int], allowed: Sequence[str]
) -> tuple[dict[str, int], list[str]]:
    """The files that remain, and what is left out.

    Raises:
        ConfigError: too much remains; so little is read to search it for secrets.
    """
    secrets = secrets_among(folder, list(files), allowed)
    rest = _outside(files, secrets)
    _require_room(folder, rest)
    asked = _outside(rest, allowed)
    secrets += [name for name in asked if holds_secret(folder / name)]
    return _outside(files, secrets), sorted(secrets)


def _outside(files: Mapping[str, int], folders: Sequence[str]) -> dict[str, int]:
    """The files that are none of `folders` and lie below none."""
    return {
        name: size
        for name, size in files.items()
        if not any(is_within(name, folder) for folder in folders)
    }


def _inside(folder: Path, storage: str) -> list[str]:
    path = Path(storage)
    return [_exactly(path.relative_to(folder).as_posix())] if folder in path.parents else []


def _unpackable(folder: Path, excludes: Sequence[str]) -> list[str]:
    """What Ray could not pack: it follows links until names are too long, and writes names as UTF-8."""
    return [
        path.relative_to(folder).as_posix()
        for path in _walk(folder, excludes)
        if path.is_dir() or not _is_utf_8(path.name)
    ]


def _is_utf_8(name: str) -> bool:
    return printable(name) == name


def _exactly(name: str) -> str:
    """The pattern of one file or folder, whatever characters are in its name."""
    escaped = re.sub(r"([\\*?\[\]!# ])", r"\\\1", name)
    # Other blanks are lost at the end of a pattern, unless they stand in brackets.
    bracketed = re.sub(r"([^\S ])", r"[\1]", escaped)
    return "/" + re.sub(r"[\ud800-\udfff]", NOT_UTF_8, bracketed)


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
