"""Dotted keys, such as `training.phases[1].epochs`: what they name, and how a value gets there.

`phases[1]` is one item of a list, counted from 0, and `phases[]` stands for every item.
"""

import re
from typing import Any

from pipeline.config.kinds import merge
from pipeline.config.section import ConfigError, Section
from pipeline.config.yaml_file import MOST_LEVELS, Node, name_of

_STEP = re.compile(r"([^\[\]]*[^\[\]\s][^\[\]]*)(?:\[([0-9]*)\])?")

# A key's name at each level and, of a list, the item: "" for every one, None if it is no list.
_Steps = list[tuple[str, str | None]]


def is_key(text: str) -> bool:
    """Whether a text is spelled as a key."""
    parts = text.split(".")
    return len(parts) <= MOST_LEVELS and all(_STEP.fullmatch(part) for part in parts)


def exists(config: Section, key: str) -> bool:
    """Whether a config has such a key, with a default or without."""
    values: list[Any] = [config]
    for name, item in _steps(key):
        values = [
            getattr(value, name)
            for value in values
            if isinstance(value, Section) and name in type(value).model_fields
        ]
        if item is not None:
            lists = [value for value in values if isinstance(value, tuple)]
            values = [each for items in lists for each in _chosen(items, item)]
    return bool(values)


def put(config: Node, key: str, value: Node) -> Node:
    """The config with `value` on top at a key.

    Raises:
        ConfigError: a part of the key has no keys, or no items, of its own.
    """
    return merge(config, _above(config, _steps(key), value, ""))


def _steps(key: str) -> _Steps:
    matches = map(_STEP.fullmatch, key.split("."))
    return [(match[1], match[2]) for match in matches if match]


def _above(below: Node | None, steps: _Steps, value: Node, passed: str) -> Node:
    """What has to lie on top of `below`, whose key is `passed`, for `value` to be at `steps`."""
    if not steps:
        return value
    if below is not None and not isinstance(below.value, dict):
        raise _no_place(value, passed, below, "keys")
    (name, item), *inner = steps
    key = f"{passed}.{name}" if passed else name
    found = below.value.get(name) if below is not None else None
    if item is None:
        return Node({name: _above(found, inner, value, key)}, value.place)
    if found is None or not isinstance(found.value, list):
        raise _no_place(value, key, found, "items")
    items = list(found.value)
    chosen = _chosen(range(len(items)), item)
    if not chosen:
        raise ConfigError(
            f"{value.place}: {key} has {len(items)} items ({found.place}), from [0] on"
        )
    for index in chosen:
        items[index] = items[index].merge(_above(items[index], inner, value, f"{key}[{index}]"))
    return Node({name: Node(items, value.place)}, value.place)


def _chosen(items: Any, item: str) -> Any:
    return items[int(item) :][:1] if item else items


def _no_place(value: Node, key: str, found: Node | None, parts: str) -> ConfigError:
    what = "not set" if found is None else f"{name_of(found.plain())} ({found.place})"
    return ConfigError(
        f"{value.place}: {key} is {what}, which has no {parts}: set it as a whole, {key}=…"
    )
