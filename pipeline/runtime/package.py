"""What a job brings to a cluster: the current folder and the project's packages, without secrets.

Every node receives these files, and whoever can open the dashboard may fetch them.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
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

    Left out are files and folders that look like `secrets`, or are `unnamed`: not in UTF-8.
    """

    files: dict[str, Path] = field(default_factory=dict)
    secrets: list[str] = field(default_factory=list)
    unnamed: list[str] = field(default_factory=list)

    @classmethod
    def of(cls, folder: Path, storage: Path | None, allowed: Sequence[str] = ()) -> "Package":
        """Everything in `folder` except what no job reads, and the project if it is elsewhere.

        Args:
            folder: becomes the job's current folder.
            storage: is left out if it is inside `folder`.
            allowed: names in `folder` that are sent although they look like secrets.

        Raises:
            ConfigError: the package is larger than a dashboard accepts.
        """
        package = cls()
        package._take(folder, folder, storage, allowed)
        if folder != project_folder():
            for module in map(Path, project_modules()):
                package._take(module, module.parent, storage, ())
        package._require_room(folder)
        for name, path in list(package.files.items()):
            if not _is_within(name, allowed) and holds_secret(path):
                del package.files[name]
                package.secrets.append(name)
        return package

    def _take(self, folder: Path, root: Path, storage: Path | None, allowed: Sequence[str]) -> None:
        """Take what lies in `folder`, under its names in `root`, but not what is in `storage`."""

        def leaves_out(path: Path) -> bool:
            """Whether it is not sent: a file, or a folder that nobody looks into."""
            name = path.relative_to(root).as_posix()
            asked = _is_within(name, allowed) or any(_is_within(each, [name]) for each in allowed)
            if printable(name) != name:
                self.unnamed.append(name)
            elif not asked and looks_secret(path, root):
                self.secrets.append(name)
            else:
                return path == storage
            return True

        rules = [(folder, PathSpec.from_lines("gitignore", EXCLUDES))]
        for path in _listed(folder, leaves_out, rules, frozenset({folder.resolve()})):
            self.files[path.relative_to(root).as_posix()] = path

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


def _listed(
    folder: Path, leaves_out: Callable[[Path], bool], rules: Rules, above: frozenset[Path]
) -> Iterator[Path]:
    """The files in `folder` that are not left out; a link to one of the folders `above` has no end."""
    rules = [*rules, *_ignore_rules(folder)]
    for path in sorted(folder.iterdir()):
        if _is_ignored(path, rules) or leaves_out(path):
            continue
        if path.is_file():
            yield path
        elif path.is_dir() and (target := path.resolve()) not in above:
            yield from _listed(path, leaves_out, rules, above | {target})


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
