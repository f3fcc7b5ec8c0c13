"""How MLflow spells what is logged: names and texts that it accepts, and no two of them alike.

A name that MLflow accepts stays as it is. In any other one the characters that it refuses become
`_`, and a mark, 12 hex digits of the name's SHA-256, keeps it apart from all others: the metric
`test clean+é.wer` becomes `test clean_é-0123456789ab.wer`. A name that looks marked is marked too,
so that it is nobody else's.
"""

import hashlib
import posixpath
import re
from collections.abc import Mapping

MAX_NAME_BYTES = 250
MAX_PARAM_CHARACTERS = 6000
MAX_TAG_CHARACTERS = 8000
MAX_RUN_NAME_CHARACTERS = 250

_MARKED = re.compile(r".*-[0-9a-f]{12}(?:\.\w{1,10})?", re.DOTALL)
_SUFFIX = re.compile(r"\.\w{1,10}$", re.ASCII)
_DIGITS = 12


def spell_name(name: str, separators: str = "./") -> str:
    """A name of a metric, a parameter, a tag or an artifact, whose suffix stays at its end.

    Args:
        name: any string.
        separators: what may stand in a name beside letters, digits, `_`, `-` and spaces.
    """
    refused = re.compile(rf"[^\w\- {re.escape(separators)}]")
    if _is_accepted(name, refused) and not _MARKED.fullmatch(name):
        return name
    found = _SUFFIX.search(name)
    suffix = found[0] if found and "." in separators else ""
    stem = refused.sub("_", name.removesuffix(suffix))
    # No part may be empty or point elsewhere, and the first may not look as if it did.
    parts = ["_" if part in {"", ".", ".."} else part for part in stem.split("/")]
    stem = re.sub(r"^\.\.", "__", "/".join(parts))
    mark = f"-{_digest(name)}{suffix}"
    return _first_bytes(stem, MAX_NAME_BYTES - len(mark)) + mark


def spell_text(text: str, most: int) -> str:
    """A text of at most `most` characters that every database stores; a longer one says that it is cut."""
    safe = text.encode("utf-8", "backslashreplace").decode().replace("\0", "\\x00")
    if len(safe) <= most:
        return safe
    tail = f"… ({len(text)} characters, SHA-256 {_digest(text)})"
    return safe[: most - len(tail)] + tail


def spell_params(params: Mapping[str, str]) -> dict[str, str]:
    return {
        spell_name(name): spell_text(text, MAX_PARAM_CHARACTERS) for name, text in params.items()
    }


def spell_tags(tags: Mapping[str, str]) -> dict[str, str]:
    return {spell_name(name): spell_text(text, MAX_TAG_CHARACTERS) for name, text in tags.items()}


def _is_accepted(name: str, refused: re.Pattern[str]) -> bool:
    # Some databases ignore a space at the end.
    return (
        bool(name)
        and not refused.search(name)
        and name == name.strip() == posixpath.normpath(name)
        and not name.startswith(("/", ".."))
        and name != "."
        and len(name.encode()) <= MAX_NAME_BYTES
    )


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:_DIGITS]


def _first_bytes(text: str, most: int) -> str:
    return text.encode()[:most].decode(errors="ignore")
