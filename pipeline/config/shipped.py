"""The configs that come with the package, found by name from any folder."""

import difflib
from pathlib import Path

from pipeline.config.section import ConfigError

_PACKAGE = Path(__file__).resolve().parents[1]
# configs/ and cluster/ are in the package when it comes from a wheel, beside it in the repository.
SHIPPED = _PACKAGE / "shipped" if (_PACKAGE / "shipped").is_dir() else _PACKAGE.parent
_CONFIGS = SHIPPED / "configs"


def config_files(name: str) -> list[Path]:
    """The variants that `name` stands for: a file, or all files of a folder.

    A path counts from the current folder. What does not exist there may be a shipped config: `demo`
    stands for all its variants, `demo/kmeans` for one of them.

    Raises:
        ConfigError: nothing has this name.
    """
    if not name.strip():
        raise ConfigError("a config's name is empty: name a YAML file, or a shipped config")
    shipped = find_shipped(name)
    for path in (Path(name), shipped, shipped.parent / f"{shipped.name}.yaml"):
        if path.is_file():
            return [path]
        if variants := sorted(path.glob("*.yaml")):
            return variants
    if Path(name).is_dir():
        raise ConfigError(
            f"{name}: the folder has no YAML file: name a config, or a folder of configs"
        )
    raise ConfigError(
        f"{name}: there is no such config file here, nor a shipped config of this name. "
        f"{_suggestion(name)}Shipped are {', '.join(_names())}; demo/kmeans is one variant"
    )


def find_shipped(name: str) -> Path:
    """Where `demo.yaml` or `configs/demo.yaml` would be among the shipped files."""
    return _CONFIGS / name.removeprefix("configs/")


def name_in_package(path: Path) -> str | None:
    """The name of a config inside the package, which finds it wherever the package is; else None."""
    return path.relative_to(_CONFIGS).as_posix() if path.is_relative_to(_PACKAGE) else None


def _suggestion(name: str) -> str:
    """The shipped config that may have been meant."""
    variants = [path.relative_to(_CONFIGS).with_suffix("") for path in _CONFIGS.glob("*/*.yaml")]
    known = [*_names(), *(variant.as_posix() for variant in variants)]
    close = difflib.get_close_matches(name.removesuffix(".yaml"), known, n=1)
    return f"Did you mean '{close[0]}'? " if close else ""


def _names() -> list[str]:
    """Every file beside which there may be a folder of its variants."""
    return sorted(path.stem for path in _CONFIGS.glob("*.yaml"))
