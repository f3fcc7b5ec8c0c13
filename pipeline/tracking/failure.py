"""What an MLflow error means: wait, leave out what is refused, or stop before work starts."""

import re

from pipeline.redaction import redact

# Databases report these like an outage, but waiting does not help.
_LASTING = re.compile(
    r"readonly database|unable to open database|authentication failed|access denied", re.IGNORECASE
)

_SHOWN_CHARACTERS = 300


class TrackingError(RuntimeError):
    """MLflow cannot be used; the message says at which address, why, and the cure."""


def is_refusal(error: BaseException) -> bool:
    """Whether MLflow understood the request and will never accept it, however often it is sent."""
    return _http_status(error) in {400, 404}


def is_outage(error: BaseException) -> bool:
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
    no_answer = isinstance(error, ConnectionError | TimeoutError)
    return database_away or no_answer or _http_status(error) >= 409


def one_line(error: BaseException) -> str:
    """The error's class and first line, shortened and without secrets."""
    first = redact((str(error).strip() or "no message").splitlines()[0])
    shown = first if len(first) <= _SHOWN_CHARACTERS else f"{first[:_SHOWN_CHARACTERS]}…"
    return f"{type(error).__name__}: {shown}"


def _http_status(error: BaseException) -> int:
    """The status by which MLflow's server answers with this error; 0 for any other's."""
    from mlflow.exceptions import ERROR_CODE_TO_HTTP_STATUS

    return ERROR_CODE_TO_HTTP_STATUS.get(getattr(error, "error_code", ""), 0)
