"""YAML in which every value knows its file and line, read as YAML 1.2 and in one way only.

PyYAML splits the text into events. Its own loader follows YAML 1.1, where `yes` is true, `1:30` is
ninety, `1e5` is text and the last of two equal keys wins without a word; so values are made here. What
two readers could understand differently is refused: repeated keys, `010`, tags, aliases, `<<`.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from pipeline.config.section import ConfigError

# A config is a few kilobytes; the most that is read of what was named by mistake.
MOST_BYTES = 1 << 18
MOST_LEVELS = 16
_MOST_DIGITS = 40
_MOST_SHOWN = 80

_WORDS = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL")),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
    **dict.fromkeys((".inf", ".Inf", ".INF", "+.inf", "+.Inf", "+.INF"), float("inf")),
    **dict.fromkeys(("-.inf", "-.Inf", "-.INF"), float("-inf")),
    **dict.fromkeys((".nan", ".NaN", ".NAN"), float("nan")),
}
_INTEGER = re.compile(r"[-+]?[0-9]+|0x[0-9a-fA-F]+|0o[0-7]+")
_OCTAL_OR_NOT = re.compile(r"[-+]?0[0-9]+")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_NEL = "\x85"
_NO_TEXT = re.compile(r"[\0\ud800-\udfff]")

Event = Any  # PyYAML's type stubs know neither tags nor marks


@dataclass(frozen=True)
class Node:
    """A value and where it stands, such as "mine.yaml:12"; mappings and lists hold nodes."""

    value: Any
    place: str

    def plain(self) -> Any:
        """The value with plain values inside, as JSON has them."""
        if isinstance(self.value, dict):
            return {key: node.plain() for key, node in self.value.items()}
        if isinstance(self.value, list):
            return [node.plain() for node in self.value]
        return self.value

    def merge(self, other: "Node") -> "Node":
        """`other`, where both are mappings on top of this one."""
        if not isinstance(self.value, dict) or not isinstance(other.value, dict):
            return other
        merged = dict(self.value)
        for key, node in other.value.items():
            merged[key] = merged[key].merge(node) if key in merged else node
        return Node(merged, other.place)


def read_mapping(path: Path) -> Node:
    """The mapping that a YAML file holds.

    Raises:
        ConfigError: there is no such file, or it is not YAML, no mapping, or ambiguous.
    """
    node = read_value(_text(path), lambda line: f"{path}:{line}")
    if not isinstance(node.value, dict):
        raise ConfigError(
            f"{node.place}: a config is a mapping of sections, got {name_of(node.value)}"
        )
    return node


def read_value(text: str, place: Callable[[int], str]) -> Node:
    """The one value that `text` holds; `place` makes the place from a line's number.

    Raises:
        ConfigError: it is not YAML, more than one document, or ambiguous.
    """
    try:
        return _Reader(text, place).document()
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        problem = f"the character U+{ord(text[error.position]):04X} is not allowed"
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = 1 if mark is None else mark.line + 1
        problem = f"{error.problem or error.context}{_cure(text, mark)}"
    raise ConfigError(f"{place(line)}: not readable as YAML: {problem}")


def write_yaml(documents: Sequence[Any]) -> str:
    """Documents that `read_value` reads back: a text that it would take for a number is in quotes."""
    return yaml.dump_all(documents, Dumper=_Writer, sort_keys=False, allow_unicode=True)


def name_of(value: Any) -> str:
    """What a message calls a plain value: "null", "a list", "the text 'x'", "the number 3"."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, dict):
        return "a mapping"
    if isinstance(value, list):
        return "a list" if value else "an empty list"
    if isinstance(value, str):
        return f"the text {shortened(value)!r}"
    return f"the number {value}"


def shortened(text: str) -> str:
    """What fits into a line of a message."""
    return text if len(text) <= _MOST_SHOWN else f"{text[:_MOST_SHOWN]}…"


class _Reader:
    """One text, event by event; `_keys` are those on the way to the value that is being read."""

    def __init__(self, text: str, place: Callable[[int], str]) -> None:
        self._loader = yaml.SafeLoader(text)
        self._place = place
        self._keys: list[str | int] = []

    def document(self) -> Node:
        self._next()  # the stream's start
        first = self._next()
        if isinstance(first, yaml.StreamEndEvent):
            raise self._error(first, "there is nothing in it")
        node = self._node(self._next())
        self._next()  # the document's end
        following = self._next()
        if not isinstance(following, yaml.StreamEndEvent):
            raise self._error(following, "a second document starts here: keep one, without '---'")
        return node

    def _next(self) -> Event:
        try:
            event = self._loader.get_event()  # type: ignore[no-untyped-call]
        except (ValueError, OverflowError) as error:  # of chr(), in PyYAML
            place = self._place(self._loader.line + 1)
            raise ConfigError(f"{place}: not readable as YAML: {error}") from None
        return event

    def _node(self, event: Event) -> Node:
        if isinstance(event, yaml.AliasEvent):
            raise self._error(event, f"the alias *{event.anchor} is not supported: write it out")
        if event.tag is not None:
            raise self._error(
                event, f"the tag {event.tag} is not supported: leave it out; quotes make text"
            )
        if len(self._keys) > MOST_LEVELS:
            raise self._error(event, f"values lie more than {MOST_LEVELS} levels deep")
        if isinstance(event, yaml.ScalarEvent):
            value = self._scalar(event)
        else:
            is_list = isinstance(event, yaml.SequenceStartEvent)
            value = self._list() if is_list else self._mapping()
        return Node(value, self._place(_line(event)))

    def _inner(self, key: str | int, event: Event) -> Node:
        self._keys.append(key)
        node = self._node(event)
        self._keys.pop()
        return node

    def _list(self) -> list[Node]:
        nodes: list[Node] = []
        while not isinstance(event := self._next(), yaml.SequenceEndEvent):
            nodes.append(self._inner(len(nodes), event))
        return nodes

    def _mapping(self) -> dict[str, Node]:
        nodes: dict[str, Node] = {}
        while not isinstance(event := self._next(), yaml.MappingEndEvent):
            key = self._name(event)
            if key in nodes:
                self._keys.append(key)
                raise self._error(
                    event,
                    f"this key stands in {nodes[key].place} already: keep one of the two, or write "
                    "what both hold under one",
                )
            # A value may start on a later line than its key, which is the one to be named.
            value = self._inner(key, self._next()).value
            nodes[key] = Node(value, self._place(_line(event)))
        return nodes

    def _name(self, event: Event) -> str:
        key = self._inner("a key", event).value
        if not isinstance(key, str):
            raise self._error(event, f"a key is a name, got {name_of(key)}: put it in quotes")
        if key == "<<":
            raise self._error(event, "the merge key '<<' is not supported: use `extends`")
        return key

    def _scalar(self, event: Event) -> Any:
        text = event.value
        if _NO_TEXT.search(text):
            raise self._error(event, "a text must not hold a zero byte or half a surrogate pair")
        if not event.implicit[0]:  # in quotes, or a block of text
            return text
        if text in _WORDS:
            return _WORDS[text]
        if _OCTAL_OR_NOT.fullmatch(text):
            raise self._error(
                event,
                f"{text} is {text.lstrip('+-0') or 0} to one YAML reader and an octal number to "
                "another: write it without the leading zero, or in quotes if it is text",
            )
        if not _INTEGER.fullmatch(text):
            return float(text) if _FLOAT.fullmatch(text) else text
        if len(text) > _MOST_DIGITS:
            raise self._error(event, f"a number of {len(text)} digits: put text in quotes")
        return int(text, 0)

    def _error(self, event: Event, message: str) -> ConfigError:
        key = f"{'.'.join(map(str, self._keys))}: " if self._keys else ""
        return ConfigError(f"{self._place(_line(event))}: {key}{message}")


class _Writer(yaml.SafeDumper):
    """Writes for YAML 1.1, where fewer texts look like numbers than in 1.2: those get quotes.

    PyYAML would write NEL, a line break, as it is and read it back as a space: so it is escaped.
    """

    def represent_scalar(self, tag: str, value: Any, style: str | None = None) -> yaml.ScalarNode:
        if tag.endswith(":str") and (_INTEGER.fullmatch(value) or _FLOAT.fullmatch(value)):
            style = "'"
        if tag.endswith(":str") and _NEL in value:
            style = '"'
        return super().represent_scalar(tag, value, style)


def _text(path: Path) -> str:
    try:
        if path.is_dir():
            raise ConfigError(f"{path}: a folder, not a config file: name a file in it")
        with path.open("rb") as file:
            content = file.read(MOST_BYTES + 1)
        if len(content) > MOST_BYTES:
            raise ConfigError(f"{path}: more than {MOST_BYTES >> 10} KiB, so it is no config")
        return content.decode("utf-8-sig")
    except FileNotFoundError:
        raise ConfigError(f"{path}: there is no such config file") from None
    except OSError as error:
        raise ConfigError(f"{path}: the config file cannot be read: {error.strerror}") from None
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise ConfigError(
            f"{path}:{line}: not readable as YAML: byte {error.start} is not UTF-8: save the file "
            "as UTF-8"
        ) from None


def _line(event: Event) -> int:
    return int(event.start_mark.line) + 1


def _cure(text: str, mark: yaml.Mark | None) -> str:
    """What helps against a mistake that many make."""
    if mark is not None and text[mark.index : mark.index + 1] == "\t":
        return ": indent with spaces"
    return ""
