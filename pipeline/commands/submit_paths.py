"""Which paths of a config mean the same on a cluster as on this machine.

A job runs on some node in a copy of the current folder; the copy is deleted when the job ends.
"""

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from pipeline.config import Config, ConfigError
from pipeline.config.files import sources
from pipeline.config.shipped import name_in_package
from pipeline.corpus.adapter import adapter_of


def require_shared_storage(storage: str) -> None:
    """Refuse a storage that would be deleted with the job, or that is a file.

    Whether the nodes can write it, only a node can try: the job does so first.

    Raises:
        ConfigError: it is a relative path, or no folder.
    """
    if _is_local(storage) and not Path(_without_scheme(storage)).is_absolute():
        raise ConfigError(
            f"the storage '{storage}' is a relative path: it would be inside the job's copy of this "
            "folder, which is deleted with the job. Name an object store (--storage "
            "s3://bucket/prefix) or an absolute path that all nodes share"
        )
    if _is_local(storage) and Path(_without_scheme(storage)).is_file():
        raise ConfigError(f"the storage '{storage}' is a file: name a folder")


def needed(
    configs: Sequence[Config], paths: Sequence[Path], send: Sequence[Path], folder: Path
) -> dict[str, str]:
    """What must be sent: the config files, what they extend, and the relative paths they name.

    Args:
        configs: the variants.
        paths: their files.
        send: what is to be sent besides.
        folder: the current one, which becomes the job's.

    Returns:
        Description (for messages) -> name in `folder`.

    Raises:
        ConfigError: one of them is outside `folder`.
    """
    files = [source for path in paths for source in sources(path)]
    named = {f"the config {file}": file for file in files if name_in_package(file) is None}
    named |= {f"--send {path}": path for path in send}
    inputs = [entry for config in configs for entry in local_inputs(config)]
    named |= {f"{key} '{path}'": path for key, path in inputs if not path.is_absolute()}
    names = {what: name_in(folder, path) for what, path in named.items()}
    outside = [what for what, name in names.items() if name is None]
    if outside:
        raise ConfigError(
            f"{outside[0]} is outside the current folder, and a job receives only that folder: copy it "
            "here, or run the command from a folder above it; data may also be on an object store "
            "(s3://…) or at an absolute path that all nodes share"
        )
    return {what: name for what, name in names.items() if name is not None}


def require_sent(names: Mapping[str, str], is_sent: Callable[[str], bool]) -> None:
    """Refuse paths that the job would not find in its copy of the folder.

    Args:
        names: from `needed`.
        is_sent: whether the file or folder of that name is sent.

    Raises:
        ConfigError: one of them is not.
    """
    for what, name in names.items():
        if not is_sent(name):
            raise ConfigError(
                f"{what} is not sent with the job: it does not exist or is empty, or .gitignore, "
                ".rayignore or the list of what no job reads (runs, tests, build …) excludes it, or it "
                f"looks like a secret (--send {name} sends it all the same). Move it elsewhere in this "
                "folder, to an object store (s3://…) or to an absolute path that all nodes share"
            )


def shared(configs: Sequence[Config]) -> list[Path]:
    """The absolute local paths that the configs name, which all nodes must share."""
    named = {path for config in configs for _, path in local_inputs(config)}
    storages = {config.storage for config in configs}
    named |= {Path(_without_scheme(storage)) for storage in storages if _is_local(storage)}
    return sorted(path for path in named if path.is_absolute())


def absent(configs: Sequence[Config]) -> list[Path]:
    """The absolute local inputs that do not exist on this machine, so that it cannot check them."""
    named = {path for config in configs for _, path in local_inputs(config)}
    return sorted(path for path in named if path.is_absolute() and not path.exists())


def local_inputs(config: Config) -> Iterator[tuple[str, Path]]:
    """The local files and folders that stages read, with the keys that name them.

    What the trainings of other configs read counts too.
    """
    paths = adapter_of(config.corpus).paths(config.corpus)
    named: dict[str, str | None] = {f"corpus.{key}": path for key, path in paths.items()}
    named["codebook.refine"] = config.codebook.refine
    if Path(config.ssl.model).is_dir():  # otherwise it is a model of the hub
        named["ssl.model"] = config.ssl.model
    if config.speaks:
        named["resynthesis.judge"] = config.resynthesis.judging_folder
    for key, path in named.items():
        if path is not None and _is_local(path):
            yield key, Path(_without_scheme(path))
    for other in config.trainers:
        yield from local_inputs(other)


def name_in(folder: Path, path: Path) -> str | None:
    """`path` relative to `folder`, with links unresolved; None if it is outside."""
    normal = Path(os.path.normpath(folder / path))
    return normal.relative_to(folder).as_posix() if normal.is_relative_to(folder) else None


def _is_local(path: str) -> bool:
    return "://" not in path or path.startswith("file://")


def _without_scheme(path: str) -> str:
    return path.removeprefix("file://")
