"""What pydantic finds wrong with a config, in words, with the file, line and key of each mistake."""

import difflib
import re
from collections.abc import Sequence
from typing import Any, get_args

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from pipeline.config import Config
from pipeline.config.corpus import CorpusSection, load_adapter
from pipeline.config.quantizer import Quantizer, load_quantizer
from pipeline.config.yaml_file import Node, name_of

_MOST_SHOWN = 20
# What these say does not depend on the value, or says it already.
_COMPLETE = {"value_error"}
_WORDS = {
    "Input should be": "must be",
    "a valid array": "a list",
    "an object": "a section",
    "a valid dictionary": "a mapping",
}
_CURES = {
    "int_type": ": write it with digits alone",
    "tuple_type": ": write [a, b], or a line '- a' for each",
    "string_type": ": put it in quotes if it is meant as text",
    "bool_type": ": write true or false",
    "model_type": ": give it keys, or leave it out",
}
_KEY = re.compile(r"[a-z_]+(?:\.[a-z_]+)*")

Location = Sequence[str | int]


def explain(what: str, config: Node, error: ValidationError) -> str:
    """`what` cannot be used, and a line for each mistake; `config` is what was validated."""
    problems = error.errors(include_url=False)
    lines = [f"  {_explain(config, problem)}" for problem in problems[:_MOST_SHOWN]]
    if len(problems) > _MOST_SHOWN:
        lines.append(f"  and {len(problems) - _MOST_SHOWN} more")
    return "\n".join([f"{what} cannot be used:", *lines])


def _explain(config: Node, problem: ErrorDetails) -> str:
    location, kind = problem["loc"], problem["type"]
    message = problem["msg"].removeprefix("Value error, ")
    if kind == "extra_forbidden":
        message = f"unknown key{_suggestion(location, config.plain())}"
    elif kind == "missing":
        message = f"not set, and there is no default{_meaning(location, config.plain())}"
    elif kind not in _COMPLETE:
        for word, ours in _WORDS.items():
            message = message.replace(word, ours)
        message = f"{message}, got {name_of(problem['input'])}{_CURES.get(kind, '')}"
    places = ", ".join(_places(config, location, message))
    return ": ".join(filter(None, (places, ".".join(map(str, location)), message)))


def _places(config: Node, location: Location, message: str) -> list[str]:
    """Where the value stands; for a rule between keys, those that the message names and that are set."""
    at = _walk(config, location) or config
    if not isinstance(at.value, dict):
        return [at.place]
    named = [
        node
        for key in dict.fromkeys(_KEY.findall(message))
        for node in (_walk(at, key.split(".")) or _walk(config, key.split(".")),)
        if node is not None
    ]
    ends = [node.place for node in named if not isinstance(node.value, dict)]
    return list(dict.fromkeys(ends)) or [_nearest(config, location).place]


def _walk(node: Node, location: Location) -> Node | None:
    for part in location:
        inner = node.value
        if isinstance(inner, dict) and part in inner:
            node = inner[str(part)]
        elif isinstance(inner, list) and isinstance(part, int) and part < len(inner):
            node = inner[part]
        else:
            return None
    return node


def _nearest(config: Node, location: Location) -> Node:
    """The innermost value on the way to `location` that is set."""
    ways = (location[:end] for end in range(len(location), 0, -1))
    return next((node for way in ways if (node := _walk(config, way)) is not None), config)


def _meaning(location: Location, values: dict[str, Any]) -> str:
    """What a key that must be set is, and how to set it."""
    *parents, leaf = location
    section = _section_at(parents, values)
    field = section.model_fields.get(str(leaf)) if section else None
    said = field.description if field and field.description else ""
    meaning = f" ({' '.join(said.split()).rstrip('.')})" * bool(said)
    parts = (f"[{part}]" if isinstance(part, int) else f".{part}" for part in location)
    return f"{meaning}: write it in the file, or --set {''.join(parts).removeprefix('.')}=…"


def _suggestion(location: Location, values: dict[str, Any]) -> str:
    *parents, leaf = location
    section = _section_at(parents, values)
    if section is None:
        return ""
    if "." in str(leaf):
        return ": a file nests sections; only --set joins keys with dots"
    close = difflib.get_close_matches(str(leaf), section.model_fields, n=1)
    return f"; did you mean '{close[0]}'?" if close else ""


def _section_at(location: Location, values: dict[str, Any]) -> Any:
    """The class of the section at `location`; None where there is none."""
    section: Any = Config
    for part in location:
        field = section.model_fields.get(part) if _is_section(section) else None
        section = section if isinstance(part, int) else _section(field, values)
    return section if _is_section(section) else None


def _section(field: Any, values: dict[str, Any]) -> Any:
    """The class of a field's section, or of the sections in its list; None of anything else."""
    annotations = () if field is None else (field.annotation, *get_args(field.annotation))
    section = next(filter(_is_section, annotations), None)
    if section is CorpusSection:
        return load_adapter(values["corpus"]["kind"]).section
    if section is Quantizer and isinstance(values["quantizer"].get("kind"), str):
        return load_quantizer(values["quantizer"]["kind"]).section
    return section


def _is_section(annotation: Any) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, BaseModel)
