"""What a job brings to a cluster: the current folder and the project's packages, without secrets.

Every node receives these files, and whoever can open the dashboard may fetch them.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from zipfile import ZipFile

from pathspec import PathSpec

from pipeline.config import ConfigError
from pipeline.graph.disk_space import readable_bytes
from pipeline.runtime.environment import project_folder, project_modules
from pipeline.runtime.secret_files import holds_secret, looks_secret
from pipeline.storage.folders import printable

# Written like .gitignore; what begins with a slash is meant in the current folder alone.
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
IGNORE_FILES = (".gitignore", ".rayignore")

# The largest request that a dashboard accepts, and a zip file's overhead for each small file.
MAX_PACKAGE_BYTES = 100 * 1024**2
ENTRY_BYTES = 256
NAMED_ENTRIES = 5

# The folder that a rule of an ignore file counts from, and its rules.
Rules = Sequence[tuple[Path, "PathSpec[Any]"]]


@dataclass
class Package:
    """The files that are sent: name in the job's folder -> path on this machine.

    Files and folders are left out if they look like `secrets`, or are `unnamed`: not in UTF-8.
    """

    files: dict[str, Path] = field(default_factory=dict)
    secrets: list[str] = field(default_factory=list)
    unnamed: list[str] = field(default_factory=list)

    @classmethod
    def of(cls, folder: Path, storage: str, allowed: Sequence[str] = ()) -> "Package":
        """Everything in `folder` except what no job reads, and the project if it is elsewhere.

        Args:
            folder: becomes the job's current folder.
            storage: is left out if it is inside `folder`.
            allowed: names in `folder` that are sent although they look like secrets.

        Raises:
            ConfigError: the package is larger than a dashboard accepts.
        """
        package = cls()
        _Search(package, folder, Path(storage), allowed).take_folder(folder)
        if folder != project_folder():
            for module in map(Path, project_modules()):
                _Search(package, module.parent, Path(storage), ()).take_folder(module)
        package._require_room(folder)
        for name, path in list(package.files.items()):
            if not _is_within(name, allowed) and holds_secret(path):
                del package.files[name]
                package.secrets.append(name)
        return package

    @property
    def num_bytes(self) -> int:
        return sum(path.stat().st_size for path in self.files.values())

    def holds(self, name: str) -> bool:
        """Whether the file `name`, or any file in the folder `name`, is sent."""
        return any(_is_within(file, [name]) for file in self.files)

    def write(self, archive: Path) -> None:
        """Write a zip file; the same bytes for the same files, which a cluster then has already."""
        with ZipFile(archive, "w", strict_timestamps=False) as written:
            for name, path in sorted(self.files.items()):
                written.write(path, name)

    def _require_room(self, folder: Path) -> None:
        needed = self.num_bytes + ENTRY_BYTES * len(self.files)
        if needed <= MAX_PACKAGE_BYTES:
            return
        sizes: Counter[str] = Counter()
        for name, path in self.files.items():
            sizes[name.partition("/")[0]] += path.stat().st_size
        largest = ", ".join(
            f"{name} {readable_bytes(size)}" for name, size in sizes.most_common(NAMED_ENTRIES)
        )
        raise ConfigError(
            f"{folder} would be sent with the job. It has {readable_bytes(needed)}, and a dashboard "
            f"accepts {readable_bytes(MAX_PACKAGE_BYTES)}. Largest: {largest}. List what the job does "
            "not read in .rayignore (written like .gitignore), move data to an object store or a "
            "shared folder, or submit from a smaller folder"
        )


@dataclass(frozen=True)
class _Search:
    """What of a folder is sent: neither what is ignored, nor `storage`, nor what looks secret."""

    package: Package
    root: Path
    storage: Path
    allowed: Sequence[str]

    def take_folder(self, folder: Path) -> None:
        rules = [(folder, PathSpec.from_lines("gitignore", EXCLUDES))]
        self._take(folder, rules, frozenset({folder.resolve()}), is_secret=False)

    def _take(self, folder: Path, rules: Rules, above: frozenset[Path], *, is_secret: bool) -> None:
        """Take what lies in `folder`; a link to one of the folders `above` would have no end."""
        rules = [*rules, *_ignore_rules(folder)]
        for path in sorted(folder.iterdir()):
            if path == self.storage or _is_ignored(path, rules):
                continue
            name = path.relative_to(self.root).as_posix()
            looks = is_secret or looks_secret(path, self.root)
            secret = looks and not _is_within(name, self.allowed)
            # A secret folder is opened for the files in it that are allowed.
            opened = path.is_dir() and any(_is_within(each, [name]) for each in self.allowed)
            if printable(name) != name:
                self.package.unnamed.append(name)
            elif secret and not opened:
                self.package.secrets.append(name)
            elif path.is_file():
                self.package.files[name] = path
            elif path.is_dir() and (target := path.resolve()) not in above:
                self._take(path, rules, above | {target}, is_secret=secret)


def _ignore_rules(folder: Path) -> Rules:
    files = [folder / name for name in IGNORE_FILES if (folder / name).is_file()]
    texts = [file.read_text(encoding="utf-8", errors="replace") for file in files]
    return [(folder, PathSpec.from_lines("gitignore", text.splitlines())) for text in texts]


def _is_ignored(path: Path, rules: Rules) -> bool:
    slash = "/" if path.is_dir() else ""
    return any(spec.match_file(f"{path.relative_to(root)}{slash}") for root, spec in rules)


def _is_within(name: str, folders: Sequence[str]) -> bool:
    """Whether `name` is one of `folders` or lies below one."""
    return any(folder in {".", name} or name.startswith(f"{folder}/") for folder in folders)
