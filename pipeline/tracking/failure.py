"""What an MLflow error means: wait, leave out what is refused, or stop before work starts."""

import re

from pipeline.redaction import redact

# Error codes of a request that will fail again however often it is sent.
_REFUSALS = {
    "BAD_REQUEST",
    "INVALID_PARAMETER_VALUE",
    "RESOURCE_ALREADY_EXISTS",
    "RESOURCE_DOES_NOT_EXIST",
}
# Error codes of a server that has a problem itself, or cannot be reached.
_OUTAGES = {
    "ABORTED",
    "CANCELLED",
    "DEADLINE_EXCEEDED",
    "INTERNAL_ERROR",
    "REQUEST_LIMIT_EXCEEDED",
    "RESOURCE_EXHAUSTED",
    "TEMPORARILY_UNAVAILABLE",
}
# Databases report these like an outage, but waiting does not help.
_LASTING = re.compile(
    r"readonly database|unable to open database|authentication failed|access denied", re.IGNORECASE
)

_SHOWN_CHARACTERS = 300


class TrackingError(RuntimeError):
    """MLflow cannot be used; the message says at which address, why, and the cure."""


def is_refusal(error: Exception) -> bool:
    """Whether MLflow understood the request and will never accept it."""
    return _code(error) in _REFUSALS


def is_outage(error: Exception) -> bool:
    """Whether the same request may succeed later, with nothing changed on our side.

    Outages: no answer (a connection refused, cut or timed out, a name that does not resolve), a
    server that reports that it is busy or broken, a locked database. Not outages, because waiting
    does not fix them: a scheme that MLflow does not know, a missing database driver, refused
    credentials, a deleted experiment, a server that is not MLflow, a SQLite file that cannot be
    created or written.
    """
    if _LASTING.search(str(error)) or type(error).__name__ == "InvalidUrlException":
        return False
    database_away = type(error).__name__ in {"OperationalError", "InterfaceError"}
    return (
        _code(error) in _OUTAGES
        or database_away
        or isinstance(error, ConnectionError | TimeoutError)
    )


def one_line(error: Exception) -> str:
    """The error's class and first line, shortened and without secrets."""
    first = redact((str(error).strip() or "no message").splitlines()[0])
    shown = first if len(first) <= _SHOWN_CHARACTERS else f"{first[:_SHOWN_CHARACTERS]}…"
    return f"{type(error).__name__}: {shown}"


def _code(error: Exception) -> str:
    return str(getattr(error, "error_code", ""))
