"""The settings of the variants: where they differ, and what else is not a default."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pipeline.config import Config
from pipeline.redaction import flatten

NOT_SET = ""
# They name the config or change no result.
_LEFT_OUT = {"variant", "storage", "tracking", "cluster"}


@dataclass(frozen=True)
class Settings:
    """By key, the values of the variants that differ, and those that all share and are no default."""

    differing: dict[str, list[str]]
    shared: dict[str, str]


def settings(configs: Sequence[Config]) -> Settings:
    rows = [_flat(config, exclude_defaults=False) for config in configs]
    chosen = {key for config in configs for key in _flat(config, exclude_defaults=True)}
    keys = dict.fromkeys(key for row in rows for key in row)
    values = {key: [row.get(key, NOT_SET) for row in rows] for key in keys}
    differing = {key: each for key, each in values.items() if len(set(each)) > 1}
    shared = {key: values[key][0] for key in keys if key in chosen and key not in differing}
    return Settings(differing, shared)


def _flat(config: Config, *, exclude_defaults: bool) -> Mapping[str, str]:
    """The settings without secrets."""
    return flatten(config.document(_LEFT_OUT, exclude_defaults=exclude_defaults))
