"""Settings from the command line, `--set key.path=value`; the value is YAML as in a file."""

import json
import re

from pipeline.config.keys import is_key, put
from pipeline.config.named import names_config
from pipeline.config.section import ConfigError
from pipeline.config.yaml_file import Node, read_value, shortened

_COMMENT = re.compile(r"(^|\s)#")


def apply(config: Node, override: str) -> Node:
    """The config with one override on top.

    Raises:
        ConfigError: it is not key.path=value, or a part of the key has no keys of its own.
    """
    key, equals, text = override.partition("=")
    place = f"--set {shortened(override)}"
    if not equals or not is_key(key):
        raise ConfigError(
            f"--set takes key.path=value, such as asr.dim=256, got '{shortened(override)}'"
        )
    if key == "extends" or names_config(key, text.strip()):
        raise ConfigError(f"{place}: `{key}` stands in a file: name the files there")
    return put(config, key, _value(text, place))


def _value(text: str, place: str) -> Node:
    if not text.strip():
        raise ConfigError(f"{place}: the value is missing: for none write null, for no text ''")
    node = read_value(text, lambda _line: place)
    if _COMMENT.search(text) and "#" not in json.dumps(node.plain()):
        raise ConfigError(f"{place}: '#' begins a comment: put the value in quotes of its own")
    return node
