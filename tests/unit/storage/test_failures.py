"""Whether another try may succeed."""

import errno
import socket

import pytest
from botocore.exceptions import ClientError
from fsspec.exceptions import FSTimeoutError
from s3fs.errors import translate_boto_error

from pipeline.storage.failures import (
    StorageAddressError,
    StorageDeniedError,
    StorageError,
    may_recover,
)


def answered(status, code):
    """What s3fs makes of S3's answer."""
    response = {"Error": {"Code": code}, "ResponseMetadata": {"HTTPStatusCode": status}}
    return translate_boto_error(ClientError(response, "GetObject"))


class HttpError(Exception):
    def __init__(self, status):
        super().__init__()
        self.status = status


def caused_by(cause):
    error = FileNotFoundError("http://host/a.wav")
    error.__cause__ = cause
    return error


PASSING = [
    *(OSError(number, "") for number in (errno.EIO, errno.ESTALE, errno.EMFILE, errno.ENOTCONN)),
    TimeoutError(), FSTimeoutError(), ConnectionResetError(), BrokenPipeError(),
    socket.gaierror(socket.EAI_AGAIN, "try again"),
    answered(500, "InternalError"), answered(503, "SlowDown"), answered(429, "TooManyRequests"),
    HttpError(502), HttpError(408), caused_by(HttpError(500)), caused_by(ConnectionRefusedError(111, "")),
    StorageError("no credentials"),
]  # fmt: skip
LASTING = [
    *(
        OSError(number, "")
        for number in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENAMETOOLONG, errno.EACCES)
    ),
    OSError("without a number"), ValueError("embedded null byte"), NotImplementedError(),
    UnicodeEncodeError("utf-8", "\udcff", 0, 1, "surrogates"),
    socket.gaierror(socket.EAI_NONAME, "unknown"),
    answered(404, "NoSuchKey"), answered(403, "AccessDenied"), answered(400, "KeyTooLongError"),
    answered(400, "SomethingNew"),
    HttpError(404), HttpError(403), caused_by(HttpError(404)), caused_by(HttpError(403)),
    FileNotFoundError(),
    StorageAddressError("no bucket"), StorageDeniedError("denied"),
]  # fmt: skip


@pytest.mark.parametrize("error", PASSING, ids=repr)
def test_what_may_pass(error):
    assert may_recover(error)


@pytest.mark.parametrize("error", LASTING, ids=repr)
def test_what_stays(error):
    assert not may_recover(error)
