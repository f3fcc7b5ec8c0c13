"""Which paths of a config mean the same on a cluster as here.

A job runs in a copy of the current folder, on whatever node; the copy is thrown away at its end.
"""

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from pipeline.config import Config, ConfigError
from pipeline.config.files import sources
from pipeline.corpus.adapter import adapter_of


def require_shared_storage(storage: str) -> None:
    """Refuse a storage that would end with the job.

    Raises:
        ConfigError: it is a relative path.
    """
    if _is_local(storage) and not Path(_without_scheme(storage)).is_absolute():
        raise ConfigError(
            f"the storage '{storage}' is a relative path: in a job it would lie in the job's copy of "
            "this folder, which is thrown away. Name an object store (--storage s3://bucket/prefix), "
            "or an absolute path that all nodes share"
        )


def needed(configs: Sequence[Config], paths: Sequence[Path], folder: Path) -> dict[str, str]:
    """What must travel: the config files, what they extend, and the relative paths they name.

    Args:
        configs: the variants.
        paths: their files.
        folder: the current one, which becomes the job's.

    Returns:
        What it is, for a message, and its name in `folder`.

    Raises:
        ConfigError: something of it lies elsewhere.
    """
    named = {f"the config {one}": one for path in paths for one in sources(path)}
    inputs = [entry for config in configs for entry in local_inputs(config)]
    named |= {f"{key} '{path}'": path for key, path in inputs if not path.is_absolute()}
    names = {what: name_in(folder, path) for what, path in named.items()}
    outside = [what for what, name in names.items() if name is None]
    if outside:
        raise ConfigError(
            f"{outside[0]} lies outside the current folder, which is what travels with a job: copy "
            "it here, or give the command in a folder above it; data may also lie on an object store "
            "(s3://…) or at an absolute path that all nodes share"
        )
    return {what: name for what, name in names.items() if name is not None}


def require_travelling(names: Mapping[str, str], travels: Callable[[str], bool]) -> None:
    """Refuse what the job would not find in its copy of the folder.

    Args:
        names: as `needed` gives them.
        travels: whether the file or folder of that name does.

    Raises:
        ConfigError: something is left out.
    """
    for what, name in names.items():
        if not travels(name):
            raise ConfigError(
                f"{what} does not travel with the job: it is empty, or .gitignore, .rayignore or the "
                "list of what no job reads (runs, tests, build …) leaves it out. Put it elsewhere in "
                "this folder, on an object store (s3://…) or at an absolute path that all nodes share"
            )


def shared(configs: Sequence[Config]) -> list[Path]:
    """The absolute local paths that the configs name, which all nodes must have in common."""
    named = {path for config in configs for _, path in local_inputs(config)}
    named |= {Path(_without_scheme(one.storage)) for one in configs if _is_local(one.storage)}
    return sorted(path for path in named if path.is_absolute())


def only_there(configs: Sequence[Config]) -> list[Path]:
    """The absolute local inputs that this machine has not got, so that it cannot check them."""
    named = {path for config in configs for _, path in local_inputs(config)}
    return sorted(path for path in named if path.is_absolute() and not path.exists())


def local_inputs(config: Config) -> Iterator[tuple[str, Path]]:
    """The local files and folders that stages read, with the keys that name them."""
    paths = adapter_of(config.corpus).paths(config.corpus)
    named: dict[str, str | None] = {f"corpus.{key}": path for key, path in paths.items()}
    named["codebook.refine"] = config.codebook.refine
    if Path(config.ssl.model).is_dir():  # otherwise it is a model of the hub
        named["ssl.model"] = config.ssl.model
    for key, path in named.items():
        if path is not None and _is_local(path):
            yield key, Path(_without_scheme(path))


def name_in(folder: Path, path: Path) -> str | None:
    """`path` as it is named in `folder`, links unresolved; None where it lies elsewhere."""
    place = Path(os.path.normpath(folder / path))
    return place.relative_to(folder).as_posix() if place.is_relative_to(folder) else None


def _is_local(path: str) -> bool:
    return "://" not in path or path.startswith("file://")


def _without_scheme(path: str) -> str:
    return path.removeprefix("file://")
