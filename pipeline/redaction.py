"""Texts and settings without secrets, for trackers, logs and reports."""

import json
import os
import re
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import unquote

HIDDEN = "***"

# `token_asr` is a section of configs.
_SECRET_KEY = re.compile(
    r"(?:^|[^a-z])(?:(?:api)?keys?|token(?!_asr)|secrets?|pass(?:word|wd|phrase)s?|credentials?|auth)"
    r"(?![a-z])",
    re.IGNORECASE,
)
# Variables whose names only look secret, such as a path to a token or an authentication mode.
_NO_SECRET_VARIABLE = re.compile(r"(?:_PATH|_FILE|_DIR|_MODE|_SOCK|_URL)$")
# Shorter values could occur in any text.
_FEWEST_CHARACTERS = 6

# Names of secrets; `tokens` are counted, and a `tokenizer` is not a secret.
_TELLTALE = (
    r"[\w.-]{0,80}(?:secret|password|passwd|passphrase|credential|signature|(?:api|access|private)[_-]?key"
    r"|(?<![a-z])token(?![a-z]|_asr))[\w.-]{0,80}"
)
# Names have a limit, so that the search ends soon in a long text without spaces.
_IN_QUERY = r"[^=&;?\s'\"]{0,80}"
_PATTERNS = {
    # The complete value of a header, with any number of parts.
    r"(?i)(authorization|cookie|x-amz-security-token(?!=))"
    r"(['\"]?[ \t]*[:=][ \t]*(?:b(?=['\"]))?['\"]?)[^\s'\"][^\r\n'\"]*": rf"\1\2{HIDDEN}",
    r"\b(Bearer|Basic)\s+[A-Za-z0-9._~+/-]{16,}=*": rf"\1 {HIDDEN}",
    # user:password@host, with or without a scheme; a password may hold an @ of its own.
    r"(?<=://)[^/\s?#'\"<>]+@": f"{HIDDEN}@",
    r"(?<![\w/.*-])[\w.%+-]+:(?!\*\*\*@)[^\s:@/'\"<>]+@(?=\w)": f"{HIDDEN}@",
    # Queries of signed URLs.
    rf"(?i)([?&;]{_IN_QUERY}(?:key|token|secret|signature|sig|password|credential){_IN_QUERY}=)"
    r"[^&\s'\"<>]+": rf"\1{HIDDEN}",
    # password=x and password='x', and "password": "x" as in JSON and Python.
    rf"(?i)(?<![\w.-])({_TELLTALE}[ \t]*=[ \t]*)(?!b?['\"]|[=\s])"
    r"[^\s,;&'\"()\[\]{}]+": rf"\1{HIDDEN}",
    rf"(?i)((?<![\w.-])(['\"]?){_TELLTALE}\2[ \t]*[:=][ \t]*b?(['\"]))"
    r"(?:(?!\3)[^\r\n])+": rf"\1{HIDDEN}",
    # Access keys of AWS, long-lived and temporary.
    r"(?<![A-Za-z0-9])(?:AKIA|ASIA)[A-Z0-9]{16}(?![A-Za-z0-9])": HIDDEN,
}


def flatten(settings: Mapping[str, Any]) -> dict[str, str]:
    """Nested settings as `a.b.0.c` -> text, without secrets and without credentials in URIs."""
    secrets = _secrets_of_environment()
    return {
        key: _redact(value if isinstance(value, str) else json.dumps(value, default=str), secrets)
        for key, value in _leaves("", settings)
        if not _is_secret(key)
    }


def redact(text: str) -> str:
    """`text` without secrets; a text that has none is returned unchanged.

    Removed are the user and password of URIs, signatures and tokens in queries, the values of
    authentication headers and of names that sound secret, access keys of AWS, and the values of
    environment variables with such names (6 characters or more).
    """
    return _redact(text, _secrets_of_environment())


def _redact(text: str, secrets: list[str]) -> str:
    # What one pattern leaves may match another.
    while (redacted := _redact_once(text, secrets)) != text:
        text = redacted
    return text


def _redact_once(text: str, secrets: list[str]) -> str:
    for secret in secrets:
        text = re.sub(rf"(?<![A-Za-z0-9]){re.escape(secret)}(?![A-Za-z0-9])", HIDDEN, text)
    for pattern, replacement in _PATTERNS.items():
        text = re.sub(pattern, replacement, text)
    return text


def _secrets_of_environment() -> list[str]:
    """The values of secret variables, and passwords in URIs of any variable, longest first."""
    secrets: set[str] = set()
    for name, value in os.environ.items():
        if _is_secret(name) and not _NO_SECRET_VARIABLE.search(name):
            secrets.add(value)
        for password in re.findall(r"://[^/\s:@]*:([^/\s?#]+)@", value):
            secrets |= {password, unquote(password)}
    return sorted(
        (value for value in secrets if len(value) >= _FEWEST_CHARACTERS), key=len, reverse=True
    )


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
        # Quoted where it could be taken for a nested name.
        own = key if key and not set('."') & set(key) else json.dumps(key)
        yield from _leaves(f"{prefix}.{own}" if prefix else own, item)
