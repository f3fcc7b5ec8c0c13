"""Print the configuration reference, made from the models in pipeline/config.

python docs/make_configuration.py > docs/configuration.md
"""

import json
import sys
from collections.abc import Iterator
from typing import Any

from pipeline.config import Config

Schema = dict[str, Any]

INTRODUCTION = """\
# Configuration reference

Every key that a config can set. This page is made from the models in `pipeline/config` by
`python docs/make_configuration.py > docs/configuration.md`; do not edit it.

A config is a YAML file with these sections. It may start from others: `extends: ../demo.yaml`, or a list of files,
the later ones winning. `--set section.key=value` on the command line overrides the file. Unknown keys are errors, and
`dkm run CONFIG --dry-run` prints the config with all defaults filled in.
"""
HEADER = "| key | type | default | what it is |\n| --- | --- | --- | --- |"


class Reference:
    """The page, section by section, from the JSON schema of `Config`."""

    def __init__(self, schema: Schema) -> None:
        self.schema = schema

    def page(self) -> str:
        """All sections; keys that stand outside any section come first."""
        top = self.schema["properties"]
        plain = {name: key for name, key in top.items() if not self._sections(key)}
        parts = [INTRODUCTION, "## Keys outside the sections\n", self._table(plain, "")]
        for name, key in top.items():
            parts += self._section(name, self._sections(key)) if name not in plain else []
        return "\n".join(parts)

    def _section(self, name: str, kinds: list[Schema]) -> Iterator[str]:
        """One section, or what all its kinds share and then each kind."""
        shared = _shared(kinds) if len(kinds) > 1 else kinds[0]["properties"]
        yield f"## `{name}`\n"
        if len(kinds) == 1:
            yield f"{_unwrapped(kinds[0]['description'])}\n"
        else:
            yield f"`{name}.kind` chooses one of the kinds below. Keys of every kind:\n"
        yield self._table(shared, f"{name}.")
        for kind in kinds if len(kinds) > 1 else []:
            own = {key: value for key, value in kind["properties"].items() if key not in shared}
            yield f"### `{name}.kind: {own.pop('kind')['const']}`\n"
            yield f"{_unwrapped(kind['description'])}\n"
            yield self._table(own, f"{name}.") if own else "No keys of its own.\n"

    def _table(self, keys: Schema, prefix: str) -> str:
        return "\n".join([HEADER, *self._rows(keys, prefix), ""])

    def _rows(self, keys: Schema, prefix: str) -> Iterator[str]:
        """A row for each key; a section within the section gives a row for each key of its own."""
        for name, key in keys.items():
            if inner := self._sections(key):
                repeated = "[]" if key.get("type") == "array" else ""
                yield from self._rows(inner[0]["properties"], f"{prefix}{name}{repeated}.")
                continue
            default = _value(key["default"]) if "default" in key else "required"
            cells = (f"`{prefix}{name}`", _type(key), default, _unwrapped(key["description"]))
            yield f"| {' | '.join(cells)} |"

    def _sections(self, key: Schema) -> list[Schema]:
        """The models that a key may hold, alone or in a list."""
        key = key["items"] if key.get("type") == "array" else key
        schemas = (key, *key.get("oneOf", ()))
        models = (
            self.schema["$defs"][schema["$ref"].rpartition("/")[2]] if "$ref" in schema else schema
            for schema in schemas
        )
        return [model for model in models if "properties" in model]


def _shared(kinds: list[Schema]) -> Schema:
    """The keys that every kind has and describes alike."""
    first, *others = (kind["properties"] for kind in kinds)
    return {name: key for name, key in first.items() if all(key == one.get(name) for one in others)}


def _type(key: Schema) -> str:
    """The type of a value with its limits, such as "number, > 0, or null"."""
    if "anyOf" in key:
        return ", or ".join(map(_type, key["anyOf"]))
    if "enum" in key or "const" in key:
        return ", ".join(map(_value, key.get("enum") or [key["const"]]))
    if key["type"] == "array":
        return f"list of {_type(key['items'])}"
    if key["type"] == "object":
        return f"mapping to {_type(key['additionalProperties'])}"
    signs = {"minimum": "≥", "exclusiveMinimum": ">", "maximum": "≤", "exclusiveMaximum": "<"}
    limits = [f"{sign} {_number(key[name])}" for name, sign in signs.items() if name in key]
    return ", ".join([key["type"], *limits])


def _number(limit: float) -> str:
    """Integers with all digits, other numbers in their shortest form."""
    return str(limit) if isinstance(limit, int) else f"{limit:g}"


def _value(value: Any) -> str:
    """A value as YAML has it; strings without quotes where that is clear."""
    clear = isinstance(value, str) and value and value.strip() == value
    text = value if clear else json.dumps(value)
    return f"`{text}`".replace("|", "\\|")


def _unwrapped(text: str) -> str:
    """A docstring as Markdown: paragraphs on one line each, and YAML's name for None."""
    paragraphs = [" ".join(part.split()) for part in text.split("\n\n")]
    return "\n\n".join(paragraphs).replace("`None`", "`null`").replace("|", "\\|")


if __name__ == "__main__":
    sys.stdout.write(Reference(Config.model_json_schema()).page())
