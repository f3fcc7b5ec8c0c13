"""Settings from the command line, `--set key.path=value`; the value is YAML as in a file."""

import json
import re

from pipeline.config.kinds import merge
from pipeline.config.section import ConfigError
from pipeline.config.yaml_file import MOST_LEVELS, Node, name_of, read_value, shortened

FINETUNED_BY = "ssl.finetuned_by"

_COMMENT = re.compile(r"(^|\s)#")


def apply(config: Node, override: str) -> Node:
    """The config with one override on top.

    Raises:
        ConfigError: it is not key.path=value, or a part of the key has no keys of its own.
    """
    key, equals, text = override.partition("=")
    place = f"--set {shortened(override)}"
    parts = key.split(".")
    if not equals or not all(part.strip() for part in parts) or len(parts) > MOST_LEVELS:
        raise ConfigError(
            f"--set takes key.path=value, such as asr.dim=256, got '{shortened(override)}'"
        )
    if key in ("extends", FINETUNED_BY):
        raise ConfigError(f"{place}: `{key}` stands in a file: name the files there")
    _require_sections(config, parts, place)
    node = _value(text, place)
    for part in reversed(parts):
        node = Node({part: node}, place)
    return merge(config, node)


def _require_sections(config: Node, parts: list[str], place: str) -> None:
    for depth, part in enumerate(parts[:-1], start=1):
        if part not in config.value:
            return
        config = config.value[part]
        if not isinstance(config.value, dict):
            key = ".".join(parts[:depth])
            raise ConfigError(
                f"{place}: {key} is {name_of(config.plain())} ({config.place}), which has no keys: "
                f"set it as a whole, {key}=…"
            )


def _value(text: str, place: str) -> Node:
    if not text.strip():
        raise ConfigError(f"{place}: the value is missing: for none write null, for no text ''")
    node = read_value(text, lambda _line: place)
    if _COMMENT.search(text) and "#" not in json.dumps(node.plain()):
        raise ConfigError(f"{place}: '#' begins a comment: put the value in quotes of its own")
    return node
