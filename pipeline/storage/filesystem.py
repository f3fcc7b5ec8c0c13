"""The filesystem behind an address: `s3://` is our own `ObjectStore`, anything else is fsspec's.

fsspec's own entry for `s3` stays as it is, for other code in the same process.
"""

from fsspec import AbstractFileSystem
from fsspec.core import url_to_fs

S3 = "s3://"


def filesystem_and_path(uri: str) -> tuple[AbstractFileSystem, str]:
    """The filesystem that holds a local path or a URI, and the path on that filesystem.

    Raises:
        ValueError, ImportError: fsspec knows no such scheme, or its package is not installed.
    """
    if uri.startswith(S3):
        from pipeline.storage.s3 import ObjectStore  # botocore takes a second to import

        return ObjectStore(), uri.removeprefix(S3).rstrip("/")
    filesystem, path = url_to_fs(uri)
    return filesystem, str(path)
