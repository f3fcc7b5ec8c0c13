"""What a storage failed with: whether it may recover, or the address is to blame."""

import errno
import socket
from typing import Any

_PASSING = {
    getattr(errno, name)
    for name in (
        "EAGAIN", "EBUSY", "ECONNABORTED", "ECONNREFUSED", "ECONNRESET", "EHOSTDOWN", "EHOSTUNREACH",
        "EINTR", "EIO", "EMFILE", "ENETDOWN", "ENETRESET", "ENETUNREACH", "ENFILE", "ENOBUFS",
        "ENOLCK", "ENOMEM", "ENOTCONN", "EPIPE", "EREMOTEIO", "ESHUTDOWN", "ESTALE", "ETIMEDOUT",
    )
    if hasattr(errno, name)
} | {socket.EAI_AGAIN}  # fmt: skip
_PASSING_STATUSES = {408, 429}
DENIED_STATUSES = {401, 403}


class StorageError(OSError):
    """The store cannot be used; the message says which one, why, and the cure."""


class StorageAddressError(StorageError):
    """Nothing can be at this address of the store."""


class StorageDeniedError(StorageError, PermissionError):
    """The credentials do not permit this."""


def may_recover(error: Exception) -> bool:
    """Whether another try may succeed: the network, the disk or the server failed.

    Otherwise the address is to blame, or what is there: a file that does not exist, that may not be
    read, whose name the storage does not take.
    """
    if isinstance(error, StorageError):
        return not isinstance(error, StorageAddressError | StorageDeniedError)
    status = http_status(error)
    if status:
        return status >= 500 or status in _PASSING_STATUSES
    if isinstance(error, TimeoutError | ConnectionError):
        return True
    if isinstance(error, OSError) and error.errno in _PASSING:
        return True
    # What the HTTP client raises without an answer, unless the address is none.
    lost = type(error).__module__.startswith("aiohttp.") and not isinstance(error, ValueError)
    # fsspec says "not found" of whatever happened to an HTTP request.
    return lost or (isinstance(error.__cause__, Exception) and may_recover(error.__cause__))


def http_status(error: Exception) -> int:
    """The status of the answer that an error, or its cause, tells of; 0 without one."""
    told = answer_of(error).get("ResponseMetadata", {}).get("HTTPStatusCode")
    return int(told or getattr(error, "status", 0) or getattr(error.__cause__, "status", 0) or 0)


def answer_of(error: BaseException) -> dict[str, Any]:
    """S3's answer: in botocore's error, or in the cause of the one that s3fs made of it."""
    for source in (error, error.__cause__):
        response = getattr(source, "response", None)
        if isinstance(response, dict):
            return response
    return {}
