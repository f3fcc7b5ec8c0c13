"""Print the configuration reference, made from the models in pipeline/config.

python docs/make_configuration.py > docs/configuration.md
"""

import json
import sys
from collections.abc import Iterator
from itertools import cycle
from typing import Any, get_args, get_origin

from pipeline.config import Config, Vocoder
from pipeline.config.corpus import KINDS, Splits, load_adapter
from pipeline.config.declaration import kinds_in
from pipeline.graph.graph import DEFAULT_STAGES
from pipeline.graph.touched import touched_stages

Schema = dict[str, Any]

INTRODUCTION = """\
# Configuration reference

Every key that a config can set. This page is made from the models in `pipeline/config` by
`python docs/make_configuration.py > docs/configuration.md`; do not edit it.

A config is a YAML file with these sections. It may start from others: `extends: ../demo.yaml`, or a list of files,
the later ones winning. `--set section.key=value` on the command line overrides the file. Where one of them names another
`corpus.kind` or `quantizer.kind`, keys that only the former kind has are left behind. Unknown keys are errors, and
`dkm run CONFIG --dry-run` prints the config with all defaults filled in.

The last column names the stages that run again when the key changes. Stages that read their output follow as far as its
content changes, which for `prepare_corpus` is known when it is complete: a limit that rejects nothing, or alignments that are
added, touch no features. A key that touches nothing changes no result.
"""
HEADER = "| key | type | default | what it is | touches |\n| --- | --- | --- | --- | --- |"
STAGES = (*DEFAULT_STAGES, "tasks.pretrain_encoder")


class Reference:
    """The page, section by section, from the JSON schema of `Config`."""

    def __init__(self, schema: Schema, touched: dict[str, tuple[str, ...]]) -> None:
        self.schema = schema
        self.touched = touched

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
            about, stages = _unwrapped(key["description"]), self._touches(f"{prefix}{name}")
            cells = (f"`{prefix}{name}`", _type(key), default, about, stages)
            yield f"| {' | '.join(cells)} |"

    def _touches(self, key: str) -> str:
        """The stages that a key touches; a kind touches what the keys of its section touch."""
        key = key.replace("[]", "")
        section, _, name = key.rpartition(".")
        below = f"{section}." if name == "kind" else key
        keys = (
            [key]
            if key in self.touched
            else [each for each in self.touched if each.startswith(below)]
        )
        stages = dict.fromkeys(stage for each in keys for stage in self.touched[each])
        return ", ".join(stages) or "nothing"

    def _sections(self, key: Schema) -> list[Schema]:
        """The models that a key may hold, alone or in a list."""
        key = key["items"] if key.get("type") == "array" else key
        schemas = (key, *key.get("oneOf", ()))
        models = (
            self.schema["$defs"][schema["$ref"].rpartition("/")[2]] if "$ref" in schema else schema
            for schema in schemas
        )
        return [model for model in models if "properties" in model]


def touched_by_keys() -> dict[str, tuple[str, ...]]:
    """The stages that each key of a config touches, with any kind of corpus and any vocoder."""
    touched: dict[str, dict[str, None]] = {}
    for config in _configs():
        for key, stages in touched_stages(config, STAGES).items():
            touched.setdefault(key, {}).update(dict.fromkeys(stages))
    return {key: tuple(stages) for key, stages in touched.items()}


def _configs() -> Iterator[Config]:
    """Configs in which, among them, every key counts."""
    generators = cycle(get_args(Vocoder.model_fields["generator"].annotation))
    for kind, generator in zip(kinds_in(KINDS), generators, strict=False):
        yield Config(
            variant="any",
            corpus=_any_corpus(kind),
            ssl={"model": "any/model", "revision": "a" * 40},
            vocoder={"generator": generator},
            resynthesis_loss={"weight": 1.0},
            token_asr={"enabled": True},
            unit_lm={"enabled": load_adapter(kind).section.has_audio},
        )


def _any_corpus(kind: str) -> Schema:
    """A section of that kind, with something for each key that is required."""
    fields = load_adapter(kind).section.model_fields
    texts = dict.fromkeys(Splits().names, "any")
    required = {
        name: texts if get_origin(field.annotation) is dict else "any"
        for name, field in fields.items()
        if field.is_required() and name != "kind"
    }
    return {"kind": kind, **required}


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
    sys.stdout.write(Reference(Config.model_json_schema(), touched_by_keys()).page())
