"""What a file needs where this project is not installed: sources, and packages with versions."""

import ast
import shutil
import sys
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from functools import cache, cached_property
from importlib import metadata
from pathlib import Path

from packaging.version import InvalidVersion, Version

from pipeline.source_code import PROJECT, ROOT, imported, source

# PyTorch installs it where it has kernels for it, and pins it.
_WITH_TORCH = {"triton"}


@dataclass(frozen=True)
class Dependencies:
    """All that a file imports, directly or through modules of this project.

    `sources` are this project's files by their path in it; `packages` the top-level names of
    everything else but the standard library.
    """

    sources: dict[str, Path]
    packages: frozenset[str]

    @classmethod
    @cache
    def of(cls, file: Path) -> "Dependencies":
        """Imports within functions count too."""
        sources: dict[str, Path] = {}
        packages: set[str] = set()
        waiting = list(_imported(file))
        while waiting:
            name = waiting.pop()
            path = source(name)
            if name.partition(".")[0] != PROJECT:
                packages.add(name.partition(".")[0])
            elif path is not None and (key := path.relative_to(ROOT).as_posix()) not in sources:
                sources[key] = path
                # A module's packages are run before it.
                waiting += [name.rpartition(".")[0] or PROJECT, *_imported(path)]
        others = packages - sys.stdlib_module_names - _WITH_TORCH
        return cls(dict(sorted(sources.items())), frozenset(others))

    def copy_to(self, folder: Path) -> Path:
        """Copy the sources into `folder`; returns the project's package there."""
        for name, path in self.sources.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, folder / name)
        return folder / PROJECT

    @cached_property
    def requirements(self) -> list[str]:
        """`name==version` of each package, as it is installed here."""
        holders = metadata.packages_distributions()
        # Several may hold parts of a package: that of its own name needs the others.
        return _pinned(
            metadata.distribution(package if package in holders[package] else holders[package][0])
            for package in self.packages
        )


@cache
def constraints() -> list[str]:
    """`name==version` of all that is installed here, for whatever the packages need themselves."""
    return _pinned(metadata.distributions())


def _imported(path: Path) -> Iterable[str]:
    return imported(ast.parse(path.read_text(encoding="utf-8")))


def _pinned(distributions: Iterable[metadata.Distribution]) -> list[str]:
    """A local version, such as 2.11.0+cu130, is in no index: its public part is.

    What says no version, or one that no index takes, cannot be pinned.
    """
    versions: dict[str, str] = {}
    for told in (each.metadata for each in distributions):
        with suppress(KeyError, TypeError, InvalidVersion):  # of two, Python imports the first
            versions.setdefault(told["Name"], Version(told["Version"]).public)
    return sorted(f"{name}=={version}" for name, version in versions.items())
