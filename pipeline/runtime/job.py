"""A job on a Ray cluster: sent through the dashboard, followed to its end, whatever the network does."""

import asyncio
import json
import logging
import os
import shlex
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, cast

import aiohttp
import ray
from ray.exceptions import AuthenticationError
from ray.job_submission import JobSubmissionClient

from pipeline.runtime.session import HOW_TO_ENTER, ClusterError

# Ray lets these overrule the address that it is given.
ADDRESS_VARIABLES = ("RAY_API_SERVER_ADDRESS", "RAY_ADDRESS")

CONNECT_SECONDS = 10.0
ANSWER_SECONDS = 120.0
# A cluster that says nothing for so long is asked whether it is still there.
SILENT_SECONDS = 60.0
RETRY_SECONDS = 1.0
LONGEST_WAIT_SECONDS = 30.0
GIVE_UP_SECONDS = 600.0

# What a lost connection looks like: Ray raises RuntimeErrors of its own for closed sockets and for
# answers that say no.
LOST = (OSError, RuntimeError, TimeoutError, aiohttp.ClientError)


@dataclass(frozen=True)
class Job:
    """What the cluster at `address` (http://host:port) is to run, in which environment."""

    address: str
    submission_id: str
    arguments: Sequence[str]
    runtime_env: Mapping[str, Any]

    @property
    def entrypoint(self) -> str:
        return shlex.join(self.arguments)

    @property
    def command(self) -> str:
        """The plain command that sends the same, for a shell."""
        environment = dict(self.runtime_env)
        folder = ("--working-dir", environment.pop("working_dir"))
        variables = ("--runtime-env-json", json.dumps(environment))
        return self._ray_job("submit", *folder, *variables, "--", *self.arguments)

    def command_to(self, *action: str) -> str:
        """The plain command to look at the job again: `logs --follow`, `status` or `stop`."""
        return self._ray_job(*action, self.submission_id)

    def _ray_job(self, action: str, *words: str) -> str:
        set_to = next(filter(None, map(os.environ.get, ADDRESS_VARIABLES)), self.address)
        overruled = set_to.rstrip("/") != self.address
        before = ["env", f"{ADDRESS_VARIABLES[0]}={self.address}"] if overruled else []
        return shlex.join([*before, "ray", "job", action, "--address", self.address, *words])


@dataclass(frozen=True)
class JobEnd:
    """How a job ended: SUCCEEDED, FAILED or STOPPED, and what Ray says of it.

    `exit_code` is that of its command, None where it never started or was lost.
    """

    status: str
    exit_code: int | None
    message: str


class JobServer:
    """The dashboard of a Ray cluster, which takes jobs.

    Raises:
        ClusterError: nothing answers at the address, it is no dashboard, lets us not in, or is of
            another Ray.
    """

    def __init__(self, address: str) -> None:
        self.address = address
        with _explained(address):
            self._client = _Client(address)
            version = self._client.ray_version()
        if version.split(".")[:2] != ray.__version__.split(".")[:2]:
            raise ClusterError(
                f"the cluster at {address} runs Ray {version}, this machine has {ray.__version__}: "
                f"install ray=={version} here, or the other there, so that what is checked here is "
                "what runs there"
            )

    def submit(self, job: Job) -> None:
        """Send the job's files, where the cluster has not got them yet, and the job.

        Raises:
            ClusterError: the cluster cannot be reached, or does not take it.
        """
        with _explained(self.address), _quiet():
            self._client.submit_job(
                entrypoint=job.entrypoint,
                submission_id=job.submission_id,
                runtime_env=dict(job.runtime_env),
            )

    def follow(
        self, submission_id: str, write: Callable[[str], None], say: Callable[[str], None]
    ) -> JobEnd:
        """Wait for the job's end.

        Args:
            submission_id: the job's.
            write: gets the log as it comes, each character once.
            say: gets a line when the connection is lost.

        Raises:
            ClusterError: the cluster has not answered for ten minutes; the job may go on.
        """
        with _explained(self.address), _quiet():
            return asyncio.run(self._follow(submission_id, _Log(write), say))

    async def _follow(self, submission_id: str, log: "_Log", say: Callable[[str], None]) -> JobEnd:
        said_at = -1
        while True:
            fault = await self._tail(submission_id, log)
            if fault and log.num_written != said_at:
                say(f"the connection was lost ({fault}): trying again")
                said_at = log.num_written
            details = await self._details(submission_id)
            if details.status.is_terminal():
                if fault:
                    await self._tail(submission_id, log)
                return JobEnd(details.status.value, details.driver_exit_code, details.message or "")
            await asyncio.sleep(RETRY_SECONDS)

    async def _tail(self, submission_id: str, log: "_Log") -> str:
        """Pass the log on, from its start, until it ends with the job; or what cut it off."""
        log.rewind()
        stream = self._client.tail_job_logs(submission_id)
        while True:
            piece = asyncio.ensure_future(anext(stream, None))
            try:
                while not (await asyncio.wait({piece}, timeout=SILENT_SECONDS))[0]:
                    await asyncio.to_thread(self._client.ray_version)
                text = piece.result()
            except LOST as error:
                return _one_line(error)
            finally:
                piece.cancel()
            if text is None:
                return ""
            log.feed(text)

    async def _details(self, submission_id: str) -> Any:
        """What the cluster knows of the job, as soon as it answers."""
        began, wait_seconds = time.monotonic(), RETRY_SECONDS
        while True:
            try:
                return await asyncio.to_thread(self._client.get_job_info, submission_id)
            except LOST:
                if time.monotonic() - began > GIVE_UP_SECONDS:
                    raise
                await asyncio.sleep(wait_seconds)
                wait_seconds = min(2 * wait_seconds, LONGEST_WAIT_SECONDS)


class _Client(JobSubmissionClient):
    """Ray's client, of the address that it is given; a request that nobody answers ends."""

    def __init__(self, address: str) -> None:
        overruling = {name: os.environ.pop(name, None) for name in ADDRESS_VARIABLES}
        try:
            super().__init__(address)
        finally:
            os.environ.update({name: one for name, one in overruling.items() if one is not None})

    def _do_request(self, *arguments: Any, **settings: Any) -> Any:
        limits = {"timeout": (CONNECT_SECONDS, ANSWER_SECONDS)}
        return super()._do_request(*arguments, **{**limits, **settings})

    def ray_version(self) -> str:
        return cast("str", self._do_request("GET", "/api/version").json()["ray_version"])


class _Log:
    """A text that is read from its start again after every interruption, and written once."""

    def __init__(self, write: Callable[[str], None]) -> None:
        self._write = write
        self.num_written = 0
        self._position = 0

    def rewind(self) -> None:
        self._position = 0

    def feed(self, text: str) -> None:
        known = max(0, self.num_written - self._position)
        self._position += len(text)
        if known < len(text):
            self._write(text[known:])
            self.num_written = self._position


@contextmanager
def _explained(address: str) -> Iterator[None]:
    """What Ray and the network raise in the block as one message."""
    try:
        yield
    except AuthenticationError as error:
        raise ClusterError(_why_not_in(address, error.message)) from error
    except (KeyError, ValueError) as error:  # an answer, but not Ray's
        raise ClusterError(
            f"what answers at {address} is no Ray dashboard ({_one_line(error)}): give the address "
            "of the head node's, such as http://head:8265"
        ) from error
    except LOST as error:
        raise ClusterError(
            f"{address} cannot be used ({_one_line(error)}): check --address (http://head:8265, the "
            "head node's dashboard), that the cluster runs, and that this machine may reach it"
        ) from error


def _why_not_in(address: str, said: str) -> str:
    """The server's two answers, or what Ray itself says where it finds no token to send."""
    if "Forbidden" in said:
        return f"the cluster at {address} refuses the token, which is another's: {HOW_TO_ENTER}"
    if "Unauthorized" in said:
        return f"the cluster at {address} asks for its token: {HOW_TO_ENTER}"
    return f"there is no token to send to {address} ({said}): {HOW_TO_ENTER}"


@contextmanager
def _quiet() -> Iterator[None]:
    """Ray's client tells of every package it uploads; warnings come back as errors."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(before)


def _one_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
