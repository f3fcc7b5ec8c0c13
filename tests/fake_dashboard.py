"""A stand-in for the job API of a Ray dashboard, with its possible failures."""

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import ray
from aiohttp import web

LOG = [f"line {number} äöü\n" for number in range(6)]


class FakeDashboard:
    """Stores what it receives; its attributes decide what it answers."""

    def __init__(self) -> None:
        self.address = ""
        self.requests: list[str] = []
        self.packages: dict[str, bytes] = {}
        self.jobs: list[dict[str, Any]] = []
        self.ray_version = ray.__version__
        self.refusal: tuple[int, str] | None = None  # status and text of every answer
        self.end: dict[str, Any] = {"status": "SUCCEEDED", "driver_exit_code": 0}
        # After how many pieces of the log a connection is cut; one entry a connection.
        self.cuts: list[int] = []
        self.pauses: list[float] = []  # seconds before the next pieces of the log
        self.failing_details = 0
        self.unfinished_details = 0

    def application(self) -> web.Application:
        application = web.Application(middlewares=[self._note], client_max_size=100 * 1024**2)
        application.add_routes(
            [
                web.get("/api/version", self._version),
                web.get("/api/packages/gcs/{name}", self._has_package),
                web.put("/api/packages/gcs/{name}", self._take_package),
                web.post("/api/jobs/", self._take_job),
                web.get("/api/jobs/{id}", self._details),
                web.get("/api/jobs/{id}/logs/tail", self._tail),
            ]
        )
        return application

    @web.middleware
    async def _note(self, request: web.Request, handler: Any) -> web.StreamResponse:
        self.requests.append(f"{request.method} {request.path}")
        if self.refusal is not None:
            status, text = self.refusal
            return web.Response(status=status, text=text)
        return await handler(request)

    async def _version(self, _request: web.Request) -> web.Response:
        return web.json_response({"version": "4", "ray_version": self.ray_version})

    async def _has_package(self, request: web.Request) -> web.Response:
        known = request.match_info["name"] in self.packages
        return web.Response(status=200 if known else 404)

    async def _take_package(self, request: web.Request) -> web.Response:
        self.packages[request.match_info["name"]] = await request.read()
        return web.Response()

    async def _take_job(self, request: web.Request) -> web.Response:
        job = await request.json()
        self.jobs.append(job)
        name = job.get("submission_id", "unnamed")
        return web.json_response({"job_id": name, "submission_id": name})

    async def _details(self, request: web.Request) -> web.Response:
        if self.failing_details:
            self.failing_details -= 1
            return web.Response(status=500, text="the head is busy")
        running = {"status": "RUNNING", "driver_exit_code": None}
        end = running if self.unfinished_details else self.end
        self.unfinished_details = max(0, self.unfinished_details - 1)
        named = {"submission_id": request.match_info["id"], "type": "SUBMISSION"}
        return web.json_response({**named, "entrypoint": "…", **end})

    async def _tail(self, request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        cut = self.cuts.pop(0) if self.cuts else len(LOG)
        for piece in LOG[:cut]:
            await asyncio.sleep(self.pauses.pop(0) if self.pauses else 0.0)
            await socket.send_str(piece)
        if cut < len(LOG):
            await asyncio.sleep(0.05)  # lets the sent bytes leave first
            assert request.transport is not None
            request.transport.abort()
        return socket


@contextmanager
def fake_dashboard() -> Iterator[FakeDashboard]:
    """A dashboard at `address`, on a free port of this machine."""
    dashboard = FakeDashboard()
    loop = asyncio.new_event_loop()
    runner = web.AppRunner(dashboard.application(), shutdown_timeout=0.1)
    loop.run_until_complete(runner.setup())
    site = web.TCPSite(runner, "127.0.0.1", 0)
    loop.run_until_complete(site.start())
    host, port = runner.addresses[0][:2]
    dashboard.address = f"http://{host}:{port}"
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        yield dashboard
    finally:
        asyncio.run_coroutine_threadsafe(runner.cleanup(), loop).result()
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()
