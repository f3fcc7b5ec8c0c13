"""Config files: YAML with `extends`, overrides from the command line, errors that help.

Imports neither torch nor Ray, so that a config can be checked on any machine.
"""

import difflib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError

from pipeline.config import Config, ConfigError
from pipeline.config.corpus import CorpusSection, load_adapter
from pipeline.config.quantizer import Quantizer, load_quantizer
from pipeline.config.shipped import find_shipped


def load(path: str | Path, overrides: Sequence[str] = ()) -> Config:
    """Read one config file, follow its `extends`, apply `key.path=value` overrides.

    Raises:
        ConfigError: the file is missing, is no YAML mapping, or says something impossible.
    """
    path = Path(path)
    values = _read(path, ())
    for override in overrides:
        _apply(values, override)
    values.setdefault("variant", path.stem)
    try:
        return Config.model_validate(values)
    except ValidationError as error:
        raise ConfigError(_explain(path, values, error)) from None


def load_all(paths: Sequence[str | Path], overrides: Sequence[str] = ()) -> list[Config]:
    """Read several variants; their names must differ, and they must share one storage."""
    if not paths:
        raise ConfigError("no config was named: give at least one YAML file")
    configs = [load(path, overrides) for path in paths]
    names = [config.variant for config in configs]
    if len(set(names)) != len(names):
        raise ConfigError(f"two configs carry the same variant name: {names}; set `variant`")
    if len({config.storage for config in configs}) > 1:
        raise ConfigError("the configs name different storages: one comparison needs one storage")
    return configs


def sources(path: Path) -> list[Path]:
    """The file and all that it `extends`, for a config that `load` takes."""
    bases = _bases(path, _parse(path))
    return [path, *(source for base in bases for source in sources(base))]


def _read(path: Path, seen: tuple[Path, ...]) -> dict[str, Any]:
    resolved = path.resolve()
    if resolved in seen:
        raise ConfigError(f"{path}: `extends` goes in a circle")
    values = _parse(path)
    merged: dict[str, Any] = {}
    for base in _bases(path, values):
        merged = _merge(merged, _read(base, (*seen, resolved)))
    values.pop("extends", None)
    return _merge(merged, values)


def _parse(path: Path) -> dict[str, Any]:
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(f"{path}: there is no such config file") from None
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigError(f"{path}: not readable as YAML: {error}") from None
    if not isinstance(values, dict):
        raise ConfigError(f"{path}: a config is a mapping of sections, got {type(values).__name__}")
    return values


def _bases(path: Path, values: dict[str, Any]) -> list[Path]:
    """The files that `path` extends: beside it, or shipped ones of the same name."""
    bases = values.get("extends", [])
    names = [bases] if isinstance(bases, str) else bases
    pairs = [(path.parent / name, find_shipped(name)) for name in names]
    return [own if own.exists() or not shipped.is_file() else shipped for own, shipped in pairs]


def _merge(base: dict[str, Any], delta: dict[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for key, value in delta.items():
        old = merged.get(key)
        merged[key] = (
            _merge(old, value) if isinstance(old, dict) and isinstance(value, dict) else value
        )
    return merged


def _apply(values: dict[str, Any], override: str) -> None:
    key, equals, text = override.partition("=")
    if not equals or not key:
        raise ConfigError(f"--set takes key.path=value, got '{override}'")
    *parents, leaf = key.split(".")
    for parent in parents:
        values = values.setdefault(parent, {})
        if not isinstance(values, dict):
            raise ConfigError(f"--set {override}: '{parent}' is a value, not a section")
    try:
        values[leaf] = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ConfigError(f"--set {override}: the value is not YAML: {error}") from None


def _explain(path: Path, values: dict[str, Any], error: ValidationError) -> str:
    lines = [f"{path}: the config cannot be used:"]
    for problem in error.errors():
        key = ".".join(map(str, problem["loc"]))
        message = problem["msg"].removeprefix("Value error, ")
        if problem["type"] == "extra_forbidden":
            message = f"unknown key{_suggestion(key, values)}"
        lines.append(f"  {key or 'config'}: {message}")
    return "\n".join(lines)


def _suggestion(key: str, values: dict[str, Any]) -> str:
    *parents, leaf = key.split(".")
    section: Any = Config
    for parent in parents:
        field = section.model_fields.get(parent)
        section = field.annotation if field is not None else None
        if section is CorpusSection:
            section = load_adapter(values["corpus"]["kind"]).section
        if section is Quantizer:
            section = load_quantizer(values["quantizer"].get("kind", "dkm")).section
        if not (isinstance(section, type) and issubclass(section, BaseModel)):
            return ""
    close = difflib.get_close_matches(leaf, section.model_fields, n=1)
    return f"; did you mean '{close[0]}'?" if close else ""
