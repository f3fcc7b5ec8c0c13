"""Settings as flat text for a tracker, without secrets."""

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

_SECRET_KEY = re.compile(
    r"(?:^|[^a-z])(?:(?:api)?keys?|token|secrets?|pass(?:word|wd|phrase)s?|credentials?|auth)"
    r"(?![a-z])",
    re.IGNORECASE,
)
_USER_INFO = re.compile(r"(?<=://)[^/@\s]+@")
_SECRET_QUERY = re.compile(
    r"([?&][^=&\s]*(?:key|token|secret|signature|sig|password|credential)[^=&\s]*=)[^&\s]*",
    re.IGNORECASE,
)


def flatten(settings: Mapping[str, Any]) -> dict[str, str]:
    """Nested settings as `a.b.0.c` -> text, without secrets and without credentials in URIs."""
    texts = {
        key: value if isinstance(value, str) else json.dumps(value, default=str)
        for key, value in _leaves("", settings)
        if not _is_secret(key)
    }
    # A tracker takes these characters in a name and no others.
    return {re.sub(r"[^\w.\-/ ]", "_", key): redact(text) for key, text in texts.items()}


def redact(text: str) -> str:
    """`text` with user and password, and signatures and tokens of queries, taken out of URIs."""
    return _SECRET_QUERY.sub(r"\1***", _USER_INFO.sub("***@", text))


def _is_secret(key: str) -> bool:
    words = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", key)  # apiToken -> api_Token
    return _SECRET_KEY.search(words) is not None


def _leaves(prefix: str, value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping):
        items = [(str(key), item) for key, item in value.items()]
    elif isinstance(value, list | tuple) and any(isinstance(item, Mapping) for item in value):
        items = [(str(index), item) for index, item in enumerate(value)]
    else:
        yield prefix, value
        return
    for key, item in items:
        yield from _leaves(f"{prefix}.{key}" if prefix else key, item)
