"""Config files: YAML with `extends`, overrides from the command line, errors that help.

Imports neither torch nor Ray, so that a config can be checked on any machine.
"""

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from pydantic import ValidationError

from pipeline.config import Config, ConfigError
from pipeline.config.keys import put
from pipeline.config.kinds import merge
from pipeline.config.mistakes import explain
from pipeline.config.named import FINETUNED_BY, JUDGE, OWN, names_config
from pipeline.config.overrides import apply
from pipeline.config.section import SectionT, validate_json
from pipeline.config.shipped import find_shipped
from pipeline.config.yaml_file import Node, name_of, read_mapping

# Values by their keys, such as `asr.dim`.
Settings = Mapping[str, Node]

_MOST_FILES = 64


def load(
    path: str | Path, overrides: Sequence[str] = (), settings: Settings | None = None
) -> Config:
    """Read one config file, follow its `extends`, apply `key.path=value` overrides.

    Files that `ssl.finetuned_by` and `resynthesis.judge` name are read alike, with the same overrides.
    `settings` come on top of these, in their order, and are not for those files.

    Raises:
        ConfigError: the file is missing, is no YAML mapping, or says something impossible; the
            message names file, line and key.
    """
    path = Path(path)
    named = _read(path, overrides, ())
    for key, value in (settings or {}).items():
        named = put(named, key, value)
    try:
        return validate_json(Config, named.plain())
    except ValidationError as error:
        raise ConfigError(explain(f"{path}: the config", named, error)) from None


def load_all(paths: Sequence[str | Path], overrides: Sequence[str] = ()) -> list[Config]:
    """Read several variants; their names must differ, and they must share one storage."""
    if not paths:
        raise ConfigError("no config was named: give at least one YAML file")
    configs = [load(path, overrides) for path in paths]
    files: dict[str, str | Path] = {}
    for path, config in zip(paths, configs, strict=True):
        if config.variant in files:
            raise ConfigError(
                f"{files[config.variant]} and {path} have the same variant name, '{config.variant}': "
                "set `variant` in one of them, or name each config once"
            )
        files[config.variant] = path
    known = {config.variant: config for config in configs}
    for key, other in (pair for config in configs for pair in config.named_by_key):
        if known.setdefault(other.variant, other) != other:
            raise ConfigError(
                f"two configs have the variant name '{other.variant}', and {key} names one of them: "
                "set `variant` in its file"
            )
    if len({config.storage for config in configs}) > 1:
        raise ConfigError("the configs name different storages: one comparison needs one storage")
    return configs


def from_options(section: type[SectionT], options: Mapping[str, Node]) -> SectionT:
    """A section whose keys come from options of the command line, which the nodes name as places.

    Raises:
        ConfigError: a value is impossible.
    """
    node = Node(dict(options), "the command line")
    try:
        return section.model_validate(node.plain())
    except ValidationError as error:
        raise ConfigError(explain("these options", node, error)) from None


def from_overrides(section: type[SectionT], overrides: Sequence[str]) -> SectionT:
    """A section with its defaults but for what `--set key=value` says.

    Raises:
        ConfigError: a key or a value is impossible.
    """
    node = Node({}, "the command line")
    for override in overrides:
        node = apply(node, override)
    return from_options(section, node.value)


def sources(path: Path) -> list[Path]:
    """The file, all that it `extends` and the configs that it names, for a config that `load` takes."""
    own = _files(path)
    named = [_find(own, name, key) for key, name in _named_configs(_merged(path))]
    return [*own, *(file for each in named if not _is(each, path) for file in sources(each))]


def _read(path: Path, overrides: Sequence[str], readers: tuple[str, ...]) -> Node:
    """One config before it is validated; other configs are mappings instead of their files' names."""
    config = _merged(path)
    for override in overrides:
        config = apply(config, override)
    config = Node({"variant": Node(path.stem, str(path))}, config.place).merge(config)
    readers = (*readers, os.path.realpath(path))
    for key, name in _named_configs(config):
        found = _find(_files(path), name, key)
        if key == JUDGE and _is(found, path):
            other = Node(OWN, name.place)
        elif os.path.realpath(found) in readers:
            raise ConfigError(
                f"{name.place}: `{key}` goes in a circle: name a config that does not lead back to "
                f"{path}"
            )
        else:
            other = _read(found, overrides, readers)
        section, _, leaf = key.partition(".")
        inner = Node({leaf: other}, name.place)
        config = config.merge(Node({section: inner}, name.place))
    return config


def _is(file: Path, other: Path) -> bool:
    return os.path.realpath(file) == os.path.realpath(other)


def _merged(path: Path) -> Node:
    """The file on top of all that it extends."""
    config = Node({}, str(path))
    for _, node in _family(path):
        config = merge(config, node)
    return config


def _files(path: Path) -> list[Path]:
    """The file and all that it extends, those that win first."""
    return [file for file, _ in _family(path)][::-1]


def _family(path: Path) -> list[tuple[Path, Node]]:
    """The file and all that it extends with what they hold, those that win last."""
    family = []
    for member in _members(path, str(path), ()):
        family.append(member)
        if len(family) > _MOST_FILES:
            raise ConfigError(f"{path}: it extends more than {_MOST_FILES} files")
    return family


def _members(path: Path, named_at: str, readers: tuple[str, ...]) -> Iterator[tuple[Path, Node]]:
    if os.path.realpath(path) in readers:
        raise ConfigError(f"{named_at}: `extends` goes in a circle: {path} extends itself")
    readers = (*readers, os.path.realpath(path))
    node = read_mapping(path)
    own = dict(node.value)
    for base in _bases(own.pop("extends", None)):
        found = _find([path], base, "extends")
        yield from _members(found, base.place, readers)
    yield path, Node(own, node.place)


def _bases(extends: Node | None) -> list[Node]:
    """The names of files, each with its place."""
    if extends is None:
        return []
    names: list[Node] = extends.value if isinstance(extends.value, list) else [extends]
    for name in names or [extends]:
        if not isinstance(name.value, str) or not name.value.strip():
            raise ConfigError(
                f"{name.place}: `extends` takes the name of a config file, or a list of names, got "
                f"{name_of(name.plain())}"
            )
    return names


def _find(readers: Sequence[Path], name: Node, key: str) -> Path:
    """The file that `key` names: beside the first of `readers` that has one, or a shipped one."""
    own, *others = (reader.parent.joinpath(name.value) for reader in readers)
    places = (own, *others, find_shipped(name.value))
    found = next((each for each in places if os.path.isfile(each)), None)  # noqa: PTH113 - Path.is_file raises for a name that is too long
    if found is None:
        problem = "is a folder" if os.path.isdir(own) else "does not exist"  # noqa: PTH112 - likewise
        raise ConfigError(
            f"{name.place}: `{key}` names '{name.value}', but {own} {problem}: name a YAML file, "
            f"relative to {readers[0]}, or a shipped config such as demo.yaml"
        )
    return found


def _named_configs(config: Node) -> Iterator[tuple[str, Node]]:
    """The keys of a config that name other files, each with the name and its place."""
    for key in (FINETUNED_BY, JUDGE):
        section, _, name = key.partition(".")
        holder = config.value.get(section)
        found = holder.value.get(name) if holder and isinstance(holder.value, dict) else None
        if found is not None and names_config(key, found.value):
            yield key, found
