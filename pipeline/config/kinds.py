"""The sections whose `kind` decides which keys they have, when one config lies on top of another."""

from collections.abc import Callable
from collections.abc import Set as AbstractSet

from pipeline.config.corpus import load_adapter
from pipeline.config.quantizer import load_quantizer
from pipeline.config.section import ConfigError
from pipeline.config.yaml_file import Node

_KEYS_OF: dict[str, Callable[[str], AbstractSet[str]]] = {
    "corpus": lambda kind: load_adapter(kind).section.model_fields.keys(),
    "quantizer": lambda kind: load_quantizer(kind).section.model_fields.keys(),
}


def merge(config: Node, other: Node) -> Node:
    """`other` on top of `config`.

    Where `other` names another kind, it takes no key that only the kind below has: AN4's `root` says
    nothing about a manifest.
    """
    below = dict(config.value)
    for name in _KEYS_OF.keys() & below.keys() & other.value.keys():
        below[name] = _without_foreign_keys(name, below[name], other.value[name])
    return Node(below, config.place).merge(other)


def _without_foreign_keys(name: str, below: Node, above: Node) -> Node:
    former, kind = _kind(below), _kind(above)
    if former is None or kind is None or former == kind:
        return below
    foreign = _keys(name, former) - _keys(name, kind)
    return Node(
        {key: value for key, value in below.value.items() if key not in foreign}, below.place
    )


def _kind(section: Node) -> str | None:
    """The kind that a section names, if it is a section and names one as text."""
    kind = section.value.get("kind") if isinstance(section.value, dict) else None
    return kind.value if kind is not None and isinstance(kind.value, str) else None


def _keys(name: str, kind: str) -> AbstractSet[str]:
    """The keys of a kind; none of an unknown one, which validation names with its place."""
    try:
        return _KEYS_OF[name](kind)
    except ConfigError:
        return frozenset()
