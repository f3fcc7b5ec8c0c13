"""S3 as the project reaches it: failed requests are repeated, and errors say what is wrong.

botocore reads endpoint, credentials, region and its own retries from the environment
(AWS_ENDPOINT_URL, AWS_ACCESS_KEY_ID, AWS_RETRY_MODE, AWS_MAX_ATTEMPTS, …).
"""

import asyncio
import hashlib
import os
from datetime import UTC, datetime, timedelta
from typing import Any

from botocore.exceptions import (
    BotoCoreError,
    CredentialRetrievalError,
    NoCredentialsError,
    ParamValidationError,
    PartialCredentialsError,
)
from botocore.exceptions import ConnectionError as NoConnectionError
from fsspec.asyn import sync_wrapper
from s3fs import S3FileSystem
from s3fs.core import S3_RETRYABLE_ERRORS

from pipeline.storage.failures import (
    StorageAddressError,
    StorageDeniedError,
    StorageError,
    answer_of,
    http_status,
)

# Codes of a busy store or an interrupted request that come with a status below 500.
BUSY = {"RequestTimeout", "IncompleteBody", "SlowDown"}
NO_CREDENTIALS = (NoCredentialsError, PartialCredentialsError, CredentialRetrievalError)
UNKNOWN_KEY = {
    "400",  # an expired token, if the answer has no body
    "ExpiredToken",
    "InvalidAccessKeyId",
    "InvalidSecurity",
    "InvalidToken",
    "SignatureDoesNotMatch",
}
MOST_KEY_BYTES = 1024
UNKNOWN_REQUEST = 501
OTHER_REGION = {"301", "AuthorizationHeaderMalformed", "PermanentRedirect"}


class ObjectStore(S3FileSystem):  # type: ignore[misc] # s3fs ships no types
    """s3fs with one policy for failures.

    botocore tries a request 3 times (or AWS_MAX_ATTEMPTS); on top of that it is tried `retries` times
    with waits that grow from 0.1 s: after cut connections, bodies that end early, timeouts, SlowDown,
    and every other error of the server itself.
    """

    retries = 8
    read_timeout = 60
    default_block_size = 16 << 20  # of one part; an upload has at most 10,000

    def __init__(self, **options: Any) -> None:
        mode = os.environ.get("AWS_RETRY_MODE", "standard")
        policy = {
            "config_kwargs": {"retries": {"mode": mode}},
            # Other processes write here, so a listing is soon outdated.
            "use_listings_cache": False,
            # Concurrent reads of one file fail if one of their bodies is cut.
            "max_concurrency": 1,
        }
        super().__init__(**{**policy, **options})

    async def _call_s3(self, method: str, *settings: Any, **request: Any) -> Any:
        """Send a request, as all of s3fs does, and explain what failed.

        Raises:
            StorageError: the store or the network failed; a missing object is FileNotFoundError.
        """
        try:
            answer = await self._repeat(method, *settings, **request)
        except Exception as error:
            if _code(error) == "NoSuchUpload" and await self._ended(method, request):
                return {}
            explained = explain(error, self._endpoint(), request)
            if explained is error:
                raise
            raise explained from error
        if method == "delete_objects" and answer.get("Errors"):
            failed = answer["Errors"][0]
            raise StorageError(
                f"s3://{request['Bucket']}/{failed.get('Key')} could not be deleted: "
                f"{failed.get('Code')} {failed.get('Message', '')}; run the same command again"
            )
        return answer

    call_s3 = sync_wrapper(_call_s3)

    def split_path(self, path: str) -> tuple[str, str, None]:
        """Bucket and key; `?versionId=` is a part of the key."""
        bucket, key = self._find_bucket_key(path.removeprefix("s3://").lstrip("/"))
        return bucket, key, None

    async def _expand_path(self, *arguments: Any, **settings: Any) -> list[str]:
        """The paths to delete or copy: `*`, `?` and `[` in them mean themselves."""
        literal = {**settings, "assume_literal": True}
        expanded: list[str] = await super()._expand_path(*arguments, **literal)
        return expanded

    async def _repeat(self, method: str, *settings: Any, **request: Any) -> Any:
        """s3fs repeats after a cut connection and after SlowDown; this, after other server errors."""
        for attempt in range(self.retries - 1):
            try:
                return await super()._call_s3(method, *settings, **request)
            except Exception as error:
                if not _is_transient(error) or _code(error) == "SlowDown":
                    raise
                await asyncio.sleep(min(0.1 * 1.7**attempt, 15))
        return await super()._call_s3(method, *settings, **request)

    async def _ended(self, method: str, request: dict[str, Any]) -> bool:
        """Whether an upload is unknown because an earlier try, whose answer was lost, ended it."""
        if method == "abort_multipart_upload":
            return True
        if method != "complete_multipart_upload":
            return False
        parts = request["MultipartUpload"]["Parts"]
        try:
            head = await super()._call_s3(
                "head_object", Bucket=request["Bucket"], Key=request["Key"]
            )
            return bool(head["ETag"].strip('"') == _etag([part["ETag"] for part in parts]))
        except (FileNotFoundError, ValueError):
            return False

    async def _abort_uploads(self, path: str, min_seconds: float) -> None:
        """Abort incomplete uploads below `path`: nobody sees their parts, and somebody pays for them.

        Those that began less than `min_seconds` ago may belong to a running writer.
        """
        bucket, key, _ = self.split_path(path)
        began_before = datetime.now(UTC) - timedelta(seconds=min_seconds)
        answer = await self._call_s3(
            "list_multipart_uploads", Bucket=bucket, Prefix=f"{key.rstrip('/')}/"
        )
        for upload in answer.get("Uploads", []):
            if upload["Initiated"] <= began_before:
                await self._abort_mpu(bucket, upload["Key"], upload["UploadId"])

    abort_uploads = sync_wrapper(_abort_uploads)

    def _endpoint(self) -> str:
        if self._s3 is None:
            return self.endpoint_url or os.environ.get("AWS_ENDPOINT_URL", "Amazon S3")
        return str(self._s3.meta.endpoint_url)


def explain(error: Exception, endpoint: str, request: dict[str, Any]) -> Exception:
    """What failed, why, and the cure; `error` itself if it does not come from the storage."""
    bucket, code = request.get("Bucket", ""), _code(error)
    address = f"s3://{bucket}/{request.get('Key') or request.get('Prefix') or ''}"
    reason = f"{code or type(error).__name__}: {error}"
    key_bytes = len(str(request.get("Key", "")).encode(errors="replace"))
    keys = "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY (and AWS_SESSION_TOKEN)"
    kind = StorageError
    if isinstance(error, NO_CREDENTIALS):
        message = (
            f"there are no credentials for {address} ({error}): set {keys}, or AWS_PROFILE, where "
            "the run starts and on every node"
        )
    elif key_bytes > MOST_KEY_BYTES:  # the answer to some requests has no more than status 400
        kind = StorageAddressError
        message = f"a key has at most {MOST_KEY_BYTES} bytes, and this one {key_bytes}: {address}"
    elif code in UNKNOWN_KEY:
        message = (
            f"{endpoint} does not accept the credentials for {address} ({reason}): check {keys}"
        )
    elif isinstance(error, PermissionError):
        kind = StorageDeniedError
        message = (
            f"{endpoint} denies access to {address} ({reason}): the credentials need the rights to "
            "list, get, put and delete objects and to abort uploads there"
        )
    elif code == "NoSuchBucket":
        kind = StorageAddressError
        message = f"{endpoint} has no bucket '{bucket}': create it, or check the name in storage and corpus"
    elif code in OTHER_REGION:
        kind = StorageAddressError
        message = f"the bucket '{bucket}' is in another region ({reason}): set AWS_DEFAULT_REGION to that region"
    elif isinstance(error, S3_RETRYABLE_ERRORS) or _is_transient(error):
        message = (
            f"{address} cannot be reached at {endpoint} ({reason}): check AWS_ENDPOINT_URL and the "
            "network, and run the same command again; completed work is kept"
        )
    elif isinstance(error, ParamValidationError | UnicodeError):
        kind = StorageAddressError
        message = f"{address} is not an address: {error}"
    elif isinstance(error, BotoCoreError | ValueError):
        message = (
            f"{address} cannot be requested at {endpoint} ({reason}): check the address, "
            "AWS_ENDPOINT_URL (http://host:port) and AWS_PROFILE"
        )
    else:
        return error
    return kind(message)


def _is_transient(error: Exception) -> bool:
    """Whether the server or the network failed, not the request."""
    status = http_status(error)
    busy = (status >= 500 and status != UNKNOWN_REQUEST) or status == 429 or _code(error) in BUSY
    return busy or isinstance(error, NoConnectionError)


def _code(error: BaseException) -> str:
    return str(answer_of(error).get("Error", {}).get("Code", ""))


def _etag(parts: list[str]) -> str:
    """A multipart object's ETag: the MD5 of its parts' MD5s, and their number.

    Source: the S3 user guide, "Checking object integrity".
    """
    digests = b"".join(bytes.fromhex(part.strip('"')) for part in parts)
    return f"{hashlib.md5(digests, usedforsecurity=False).hexdigest()}-{len(parts)}"
