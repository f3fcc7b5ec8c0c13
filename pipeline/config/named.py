"""Keys whose value may be the file of another config, which is then read in the place of its name."""

from collections.abc import Iterator
from typing import Any

from pipeline.config.yaml_file import Node

FINETUNED_BY = "ssl.finetuned_by"
JUDGE = "resynthesis.judge"
# The judge that is no other config's.
OWN = "own"


def names_config(key: str, value: Any) -> bool:
    """Whether `value` at `key` is the name of a config's file."""
    is_config = key == FINETUNED_BY or (key == JUDGE and is_file_name(value))
    return is_config and isinstance(value, str)


def is_file_name(value: Any) -> bool:
    """Whether a text ends as configs' files do, so that it names neither a folder nor a model."""
    return isinstance(value, str) and value.endswith((".yaml", ".yml"))


def named_configs(config: Node) -> Iterator[tuple[str, Node]]:
    """The keys of a config that name other files, each with the name and its place."""
    for key in (FINETUNED_BY, JUDGE):
        section, _, name = key.partition(".")
        holder = config.value.get(section)
        found = holder.value.get(name) if holder and isinstance(holder.value, dict) else None
        if found is not None and names_config(key, found.value):
            yield key, found
