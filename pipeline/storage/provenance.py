"""Where an output comes from: the commit, the command and the versions that made it.

Manifests tell it, and no digest covers it:

    {"commit": "9f3c…", "local_changes": false, "command": "python -m pipeline run demo",
     "versions": {"python": "3.11.7", "torch": "2.11.0", …}}

`commit` has 40 hex digits, and is absent with `local_changes` where the code lies in no checkout;
a job, whose code is a copy, has those of the checkout that it was submitted from. The command is
without secrets. `tags` makes of it what MLflow shows.
"""

import importlib.metadata
import json
import os
import platform
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pipeline.redaction import redact
from pipeline.storage.owner import command_line

LIBRARIES = ("dkm-pipeline", "numpy", "pyarrow", "ray", "torch", "torchaudio", "transformers")
COMMIT_TAG = "mlflow.source.git.commit"
COMMAND_TAG = "pipeline.command"
VERSION_TAG = "pipeline.version"
# By which a job learns the commit, as JSON.
SENT_COMMIT = "DKM_COMMIT"

Provenance = Mapping[str, Any]


def provenance() -> Provenance:
    """That of what this process makes, as a manifest has it."""
    told = {"command": redact(command_line()), "versions": versions()}
    return {**(own_commit() or json.loads(os.environ.get(SENT_COMMIT, "{}"))), **told}


def own_commit() -> dict[str, Any]:
    """`commit_of` this code."""
    return commit_of(Path(__file__).parent)


def tags(told: Provenance) -> dict[str, str]:
    """MLflow tags of what `provenance` or a manifest tells; what that lacks is left out."""
    found = {COMMIT_TAG: shown_commit(told), COMMAND_TAG: str(told.get("command", ""))}
    found |= {f"{VERSION_TAG}.{name}": each for name, each in told.get("versions", {}).items()}
    return {name: value for name, value in found.items() if value}


def shown_commit(told: Provenance) -> str:
    """The commit, marked if files differed from it; empty if it is not known."""
    changes = " with local changes" * bool(told.get("local_changes"))
    return f"{told['commit']}{changes}" if told.get("commit") else ""


def commit_of(folder: Path) -> dict[str, Any]:
    """`commit` and `local_changes` of the checkout that tracks `folder`; nothing without one."""
    # An installed copy may lie, untracked, within a checkout of something else.
    commit = _git(folder, "rev-parse", "HEAD") if _git(folder, "ls-files", ".") else ""
    if not commit:
        return {}
    changed = _git(folder, "status", "--porcelain", "--untracked-files=no")
    return {"commit": commit, "local_changes": bool(changed)}


def versions() -> dict[str, str]:
    """The versions of Python, of the libraries that are installed, and of this project."""
    found = {"python": platform.python_version()}
    for name in LIBRARIES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def _git(folder: Path, *arguments: str) -> str:
    command = ["git", "-C", str(folder), *arguments]
    try:
        finished = subprocess.run(  # noqa: S603 - fixed arguments
            command, capture_output=True, text=True, check=False, timeout=10
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return finished.stdout.strip() if finished.returncode == 0 else ""
