"""Keys whose value may be the file of another config, which is then read in the place of its name."""

from typing import Any

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
