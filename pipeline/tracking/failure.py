"""What an error of MLflow means: wait, give this up, or stop before work starts."""

import re

from pipeline.redaction import redact

# What MLflow says of a request that will be no better the next time.
_REFUSALS = {
    "BAD_REQUEST",
    "INVALID_PARAMETER_VALUE",
    "RESOURCE_ALREADY_EXISTS",
    "RESOURCE_DOES_NOT_EXIST",
}
# What it says of its own troubles, and of the way to it.
_OUTAGES = {
    "ABORTED",
    "CANCELLED",
    "DEADLINE_EXCEEDED",
    "INTERNAL_ERROR",
    "REQUEST_LIMIT_EXCEEDED",
    "RESOURCE_EXHAUSTED",
    "TEMPORARILY_UNAVAILABLE",
}
# Databases answer these as they answer an outage, but nothing passes by itself here.
_LASTING = re.compile(
    r"readonly database|unable to open database|authentication failed|access denied", re.IGNORECASE
)

_SHOWN_CHARACTERS = 300


class TrackingError(RuntimeError):
    """The tracker cannot be used; the message says which one, why, and the cure."""


class RunNotFoundError(RuntimeError):
    """The run is not there yet: the process that makes runs has not come to it."""


def is_refusal(error: Exception) -> bool:
    """Whether MLflow understood the request and will never take it."""
    return _code(error) in _REFUSALS


def is_outage(error: Exception) -> bool:
    """Whether the tracker may be there and willing another time, with nothing changed here.

    The line is drawn so: no answer (refused, cut or timed out connections, a name that does not
    resolve), a server that says it is busy or broken, and a locked database are outages. A
    scheme that MLflow does not know, a missing database driver, refused credentials, a deleted
    experiment, a server that is no MLflow, and a SQLite file that cannot be made or written are
    none: waiting would not mend them.
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
    """The error's kind and first line, without secrets and no longer than can be read."""
    first = redact((str(error).strip() or "no message").splitlines()[0])
    shown = first if len(first) <= _SHOWN_CHARACTERS else f"{first[:_SHOWN_CHARACTERS]}…"
    return f"{type(error).__name__}: {shown}"


def _code(error: Exception) -> str:
    return str(getattr(error, "error_code", ""))
