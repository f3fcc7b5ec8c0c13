"""The configs that come with the package, found by name from any folder."""

from pathlib import Path

from pipeline.config.errors import ConfigError

_PACKAGE = Path(__file__).resolve().parents[1]
# In a wheel `configs/` and `cluster/` are part of the package, in the repository they stand beside it.
SHIPPED = _PACKAGE / "shipped" if (_PACKAGE / "shipped").is_dir() else _PACKAGE.parent
_CONFIGS = SHIPPED / "configs"


def config_files(name: str) -> list[Path]:
    """The variants that `name` stands for: a file, or all files of a folder.

    Paths count from the current folder; what is not there is looked for among the shipped configs,
    where `demo` stands for all its variants and `demo/kmeans` for one.

    Raises:
        ConfigError: there is nothing of this name.
    """
    shipped = find_shipped(name)
    for path in (Path(name), shipped, shipped.with_name(f"{shipped.name}.yaml")):
        if path.is_file():
            return [path]
        if variants := sorted(path.glob("*.yaml")):
            return variants
    raise ConfigError(
        f"{name}: there is no such config file here, nor a shipped config of this name. "
        f"Shipped are {', '.join(_names())}; demo/kmeans is one variant"
    )


def find_shipped(name: str) -> Path:
    """Where the shipped `name` is if it exists: `demo.yaml` or `configs/demo.yaml`."""
    return _CONFIGS / name.removeprefix("configs/")


def name_in_package(path: Path) -> str | None:
    """The name of a config that is part of the package, and so goes wherever the package goes."""
    return path.relative_to(_CONFIGS).as_posix() if path.is_relative_to(_PACKAGE) else None


def _names() -> list[str]:
    folders = {path.parent.name for path in _CONFIGS.glob("*/*.yaml")} - {"variants"}
    return sorted(folders | {"pretrain_encoder"})
