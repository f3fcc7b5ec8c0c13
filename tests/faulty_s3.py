"""An S3 server behind a proxy that fails as planned, as networks and stores do."""

import http.client
import random
import socket
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Self
from urllib.parse import urlsplit
from urllib.request import Request, urlopen

import pytest

from pipeline.storage.s3 import ObjectStore

# SlowDown and InternalError are S3's own errors. A connection is cut while the request is sent,
# while the answer is sent, or after the work is done and before the answer is sent.
FAULTS = ("slow_down", "internal_error", "cut_request", "cut_answer", "lost_answer")
ANSWERS = {
    "slow_down": (503, "SlowDown"),
    "internal_error": (500, "InternalError"),
    "denied": (403, "AccessDenied"),
    "no_such_upload": (404, "NoSuchUpload"),
    "conflict": (409, "ConditionalRequestConflict"),
    "not_implemented": (501, "NotImplemented"),
}

Plan = Callable[[str, str], str | None]


@contextmanager
def local_s3() -> Iterator[str]:
    """The address of moto's server with an empty `s3://bucket`, and the environment to reach it."""
    server = pytest.importorskip("moto.server").ThreadedMotoServer(port=0, verbose=False)
    server.start()
    url = "http://{}:{}".format(*server.get_host_and_port())
    with pytest.MonkeyPatch.context() as patch:
        use(patch, url)
        # Servers of one process share their contents: delete what an earlier one stored.
        urlopen(Request(f"{url}/moto-api/reset", method="POST")).close()  # noqa: S310 (our own)
        ObjectStore().mkdir("bucket")
        yield url
    server.stop()


def use(patch: pytest.MonkeyPatch, url: str) -> None:
    """Let this process and its children find S3 at `url`, and read none of the user's AWS files."""
    patch.setenv("AWS_ENDPOINT_URL", url)
    patch.setenv("AWS_ACCESS_KEY_ID", "test")
    patch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    patch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        patch.setenv(name, "/nonexistent")
    # fsspec caches file systems, those of another server too.
    ObjectStore.clear_instance_cache()


def seeded(share: float, seed: int) -> Plan:
    """A fault of any kind for `share` of the requests."""
    generator = random.Random(seed)  # noqa: S311 (no secret)
    return lambda _method, _path: generator.choice(FAULTS) if generator.random() < share else None


class FaultyS3(ThreadingHTTPServer):
    """Forwards to the server at `upstream`, unless `plan(method, path)` names a fault.

    `faults` counts what went wrong, and `requests` what was asked for.
    """

    daemon_threads = True

    def __init__(self, upstream: str, plan: Plan) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.upstream = urlsplit(upstream).netloc
        self.plan = plan
        self.faults: Counter[str] = Counter()
        self.requests = 0
        self._lock = threading.Lock()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def __enter__(self) -> Self:
        threading.Thread(target=self.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_error: object) -> None:
        self.shutdown()
        self.server_close()

    def next_fault(self, method: str, path: str) -> str | None:
        with self._lock:
            self.requests += 1
            fault = self.plan(method, path)
            if fault is not None:
                self.faults[fault] += 1
            return fault


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: FaultyS3

    def _serve(self) -> None:
        fault = self.server.next_fault(self.command, self.path)
        length = int(self.headers.get("Content-Length", 0))
        if fault == "cut_request":
            self.rfile.read(length // 2)
            self._cut()
            return
        body = self.rfile.read(length)
        if fault in ANSWERS:
            self._refuse(*ANSWERS[fault])
            return
        status, headers, answer = self._forward(body)
        if fault == "lost_answer":
            self._cut()
            return
        self.send_response_only(status)
        for name, value in headers:
            self.send_header(name, value)
        self.end_headers()
        if fault == "cut_answer":
            self.wfile.write(answer[: len(answer) // 2])
            self._cut()
        else:
            self.wfile.write(answer)

    do_GET = do_HEAD = do_PUT = do_POST = do_PATCH = do_DELETE = _serve

    def _forward(self, body: bytes) -> tuple[int, list[tuple[str, str]], bytes]:
        upstream = http.client.HTTPConnection(self.server.upstream, timeout=60)
        try:
            hop = {"connection", "expect"}
            headers = {
                name: value for name, value in self.headers.items() if name.lower() not in hop
            }
            upstream.request(self.command, self.path, body, headers)
            response = upstream.getresponse()
            answer = response.read()
            left_out = {"connection", "content-length", "transfer-encoding"}
            kept = [pair for pair in response.getheaders() if pair[0].lower() not in left_out]
            length = response.getheader("Content-Length") if self.command == "HEAD" else len(answer)
            return response.status, [*kept, ("Content-Length", str(length or 0))], answer
        finally:
            upstream.close()

    def _refuse(self, status: int, code: str) -> None:
        answer = b""
        if self.command != "HEAD":
            answer = f"<Error><Code>{code}</Code><Message>as planned</Message></Error>".encode()
        self.send_response_only(status)
        self.send_header("Content-Type", "application/xml")
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def _cut(self) -> None:
        self.close_connection = True
        self.wfile.flush()
        self.connection.shutdown(socket.SHUT_RDWR)

    def log_message(self, *_arguments: object) -> None:
        """Log nothing: the failures are intended."""
