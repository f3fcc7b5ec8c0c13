"""Which paths of a config mean the same on a cluster as on this machine.

A job runs on some node in a copy of the current folder; the copy is deleted when the job ends.
"""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from pipeline.config import Config, ConfigError
from pipeline.config.files import sources
from pipeline.config.shipped import name_in_package
from pipeline.corpus.adapter import adapter_of
from pipeline.runtime.package import Package


def require_shared_storage(storage: str) -> None:
    """Refuse a storage that would be deleted with the job, or that is a file.

    Whether the nodes can write it, only a node can try: the job does so first.

    Raises:
        ConfigError: it is a relative path, or no folder.
    """
    folder = local_path(storage)
    if folder is not None and not folder.is_absolute():
        raise ConfigError(
            f"the storage '{storage}' is a relative path: it would be inside the job's copy of this "
            "folder, which is deleted with the job. Name an object store (--storage "
            "s3://bucket/prefix) or an absolute path that all nodes share"
        )
    if folder is not None and folder.is_file():
        raise ConfigError(f"the storage '{storage}' is a file: name a folder")


def require_sent(
    configs: Sequence[Config], paths: Sequence[Path], package: Package, send: Sequence[Path]
) -> None:
    """Refuse config files, what they extend, or relative paths in them that a job would not find.

    Args:
        configs: the variants.
        paths: their files.
        package: what is sent of the current folder.
        send: what is to be sent besides.

    Raises:
        ConfigError: one of them is outside the current folder, or is not sent.
    """
    files = [source for path in paths for source in sources(path)]
    needed = {f"the config {file}": file for file in files if name_in_package(file) is None}
    needed |= {f"--send {path}": path for path in send}
    inputs = [entry for config in configs for entry in local_inputs(config)]
    needed |= {f"{key} '{path}'": path for key, path in inputs if not path.is_absolute()}
    for what, path in needed.items():
        name = name_in(Path.cwd(), path)
        if name is None:
            raise ConfigError(
                f"{what} is outside the current folder, and a job receives only that folder: copy it "
                "here, or run the command from a folder above it; data may also be on an object store "
                "(s3://…) or at an absolute path that all nodes share"
            )
        if not package.holds(name):
            raise ConfigError(
                f"{what} is not sent with the job: it does not exist or is empty, or .gitignore, "
                ".rayignore or the list of what no job reads (runs, tests, build …) excludes it, or it "
                f"looks like a secret (--send {name} sends it all the same). Move it elsewhere in this "
                "folder, to an object store (s3://…) or to an absolute path that all nodes share"
            )


def shared(configs: Sequence[Config]) -> list[Path]:
    """The absolute local paths that the configs name, which all nodes must share."""
    storages = filter(None, (local_path(config.storage) for config in configs))
    return sorted({*storages, *absolute_inputs(configs)})


def absolute_inputs(configs: Sequence[Config]) -> list[Path]:
    """The absolute paths among the local inputs."""
    named = {path for config in configs for _, path in local_inputs(config)}
    return sorted(path for path in named if path.is_absolute())


def local_inputs(config: Config) -> Iterator[tuple[str, Path]]:
    """The local files and folders that stages read, with the keys that name them.

    What the trainings of other configs read counts too.
    """
    paths = adapter_of(config.corpus).paths(config.corpus)
    named: dict[str, str | None] = {f"corpus.{key}": path for key, path in paths.items()}
    named["codebook.refine"] = config.codebook.refine
    named["asr_evaluation.language_model.path"] = config.asr_evaluation.language_model.path
    if Path(config.ssl.model).is_dir():  # otherwise it is a model of the hub
        named["ssl.model"] = config.ssl.model
    if config.speaks:
        named["resynthesis.judge"] = config.resynthesis.judging_folder
    for key, path in named.items():
        if path is not None and (local := local_path(path)) is not None:
            yield key, local
    for other in config.trainers:
        yield from local_inputs(other)


def name_in(folder: Path, path: Path) -> str | None:
    """`path` relative to `folder`, with links unresolved; None if it is outside."""
    normal = Path(os.path.normpath(folder / path))
    return normal.relative_to(folder).as_posix() if normal.is_relative_to(folder) else None


def local_path(address: str) -> Path | None:
    """The path on this machine; None if the address is elsewhere."""
    path = address.removeprefix("file://")
    return None if "://" in path else Path(path)
