"""A space of settings to choose from: a YAML file of keys, each with its choices or a range.

asr.dropout: [0.1, 0.2]
training.phases[].learning_rates.asr: {low: 5.0e-4, high: 5.0e-3, log: true}
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.config.keys import exists, is_key
from pipeline.config.section import ConfigError
from pipeline.config.variant import Config
from pipeline.config.yaml_file import Node, name_of, read_mapping

# What the scores on the validation split depend on; nothing else can be chosen by them.
_SECTIONS = (
    "features",
    "codebook",
    "quantizer",
    "asr",
    "training",
    "ssl",
    "token_asr",
    "resynthesis_loss",
)
_REFUSED = {
    "training.seeds": "a seed is no setting: the best of several is luck",
    "ssl.model": "another SSL model is another comparison",
    "ssl.revision": "another SSL model is another comparison",
    "ssl.finetuned_by": "another SSL model is another comparison",
}
_RANGE = "{low: …, high: …}, with log: true for what grows by factors"


@dataclass(frozen=True)
class Range:
    """Numbers from `low` to `high`; `log` says that their logarithm is drawn evenly.

    They are whole numbers where both ends are.
    """

    low: float
    high: float
    log: bool
    place: str

    @property
    def is_whole(self) -> bool:
        return isinstance(self.low, int) and isinstance(self.high, int)


# What a setting is drawn from: a range, or the values themselves.
Domain = Range | tuple[Node, ...]


@dataclass(frozen=True)
class Space:
    """What each key is drawn from, in the file's order."""

    domains: Mapping[str, Domain]
    places: Mapping[str, str]

    def plain(self) -> dict[str, Any]:
        """As the file has it."""
        return {
            key: {"low": domain.low, "high": domain.high, "log": domain.log}
            if isinstance(domain, Range)
            else [node.plain() for node in domain]
            for key, domain in self.domains.items()
        }

    def keys_without(self, config: Config) -> list[str]:
        """The keys that a variant does not have."""
        return [key for key in self.domains if not exists(config, key)]

    def check(self, configs: Sequence[Config]) -> None:
        """Refuse a key that no variant has.

        Raises:
            ConfigError: names the key with its file and line.
        """
        for key, place in self.places.items():
            if not any(exists(config, key) for config in configs):
                raise ConfigError(
                    f"{place}: {key}: no variant has this key: write it as for --set, such as "
                    "asr.dim, or training.phases[].learning_rates.asr for every phase"
                )


def read_space(path: Path) -> Space:
    """The space that a YAML file describes.

    Raises:
        ConfigError: the file cannot be read, or a key cannot be chosen, or has no choices; the
            message names file, line and key.
    """
    keys = read_mapping(path).value
    if not keys:
        raise ConfigError(f"{path}: the space has no keys: name at least one, with its choices")
    return Space(
        {key: _domain(key, node) for key, node in keys.items()},
        {key: node.place for key, node in keys.items()},
    )


def _domain(key: str, node: Node) -> Domain:
    _check_key(key, node.place)
    if isinstance(node.value, dict):
        return _range(f"{node.place}: {key}", node)
    if not isinstance(node.value, list) or not node.value:
        raise ConfigError(
            f"{node.place}: {key} takes a list of choices, or {_RANGE}; got {name_of(node.plain())}"
        )
    for choice in node.value:
        for inner in _keys_within(key, choice):
            _check_key(inner, choice.place)
    return tuple(node.value)


def _check_key(key: str, place: str) -> None:
    if not is_key(key):
        raise ConfigError(f"{place}: '{key}' is no key: write it as for --set, such as asr.dim")
    section = key.partition(".")[0]
    if section not in _SECTIONS:
        raise ConfigError(
            f"{place}: {key} cannot be chosen on the validation split, whose scores do not depend on "
            f"it, or must not: take keys of {', '.join(_SECTIONS)}"
        )
    if key in _REFUSED:
        raise ConfigError(f"{place}: {key} cannot be chosen: {_REFUSED[key]}")


def _keys_within(key: str, choice: Node) -> Iterator[str]:
    """The keys that a choice sets below its own."""
    if isinstance(choice.value, dict):
        for name, inner in choice.value.items():
            yield f"{key}.{name}"
            yield from _keys_within(f"{key}.{name}", inner)


def _range(what: str, node: Node) -> Range:
    values = node.plain()
    low, high, log = values.get("low"), values.get("high"), values.get("log", False)
    if not _is_number(low) or not _is_number(high) or not isinstance(log, bool):
        raise ConfigError(f"{what}: a range is {_RANGE}")
    if unknown := sorted(values.keys() - {"low", "high", "log"}):
        raise ConfigError(f"{what}.{unknown[0]}: unknown key; a range is {_RANGE}")
    if not low < high:
        raise ConfigError(f"{what}: low {low} must be less than high {high}")
    if log and low <= 0:
        raise ConfigError(f"{what}: low {low} has no logarithm: leave log out, or raise it above 0")
    return Range(low, high, log, node.place)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e9
