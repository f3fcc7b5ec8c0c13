"""A job on a Ray cluster: submitted through the dashboard, and followed through lost connections."""

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
from ray.job_submission import JobDetails, JobSubmissionClient

from pipeline.runtime.session import HOW_TO_AUTHENTICATE, ClusterError

# In Ray's client these win over the address that it is given.
ADDRESS_VARIABLES = ("RAY_API_SERVER_ADDRESS", "RAY_ADDRESS")

CONNECT_SECONDS = 10.0
ANSWER_SECONDS = 120.0
# When the log has been silent for this long, ask whether the cluster still answers.
SILENT_SECONDS = 60.0
RETRY_SECONDS = 1.0
LONGEST_WAIT_SECONDS = 30.0
GIVE_UP_SECONDS = 600.0

# What a lost connection raises: for closed sockets and refusals Ray raises plain RuntimeErrors.
LOST = (OSError, RuntimeError, TimeoutError, aiohttp.ClientError)

# What Ray says of a job: status, driver_exit_code (None if its command never ran), message.
JobEnd = JobDetails


@dataclass(frozen=True)
class Job:
    """A command for the cluster at `address` (http://host:port), and its runtime environment."""

    address: str
    submission_id: str
    arguments: Sequence[str]
    runtime_env: Mapping[str, Any]

    @property
    def entrypoint(self) -> str:
        return shlex.join(self.arguments)

    @property
    def command(self) -> str:
        """The `ray job submit` command that submits the same job, for a shell."""
        environment = dict(self.runtime_env)
        folder = ("--working-dir", environment.pop("working_dir"))
        variables = ("--runtime-env-json", json.dumps(environment))
        return self._ray_job("submit", *folder, *variables, "--", *self.arguments)

    def command_to(self, *action: str) -> str:
        """The `ray job` command for `logs --follow`, `status` or `stop` of this job."""
        return self._ray_job(*action, self.submission_id)

    def _ray_job(self, action: str, *words: str) -> str:
        winning = next(filter(None, map(os.environ.get, ADDRESS_VARIABLES)), self.address)
        differs = winning.rstrip("/") != self.address
        setting = ["env", f"{ADDRESS_VARIABLES[0]}={self.address}"] if differs else []
        return shlex.join([*setting, "ray", "job", action, "--address", self.address, *words])


class JobServer:
    """The dashboard of a Ray cluster, which accepts jobs.

    Raises:
        ClusterError: nothing answers at the address, it is not a dashboard, it rejects our token, or
            it belongs to another version of Ray.
    """

    def __init__(self, address: str) -> None:
        self.address = address
        with _explained(address):
            self._client = _Client(address)
            version = self._client.ray_version()
        if version.split(".")[:2] != ray.__version__.split(".")[:2]:
            raise ClusterError(
                f"the cluster at {address} runs Ray {version}, this machine has {ray.__version__}: "
                f"install ray=={version} here, or the same version there, so that the job runs what "
                "was checked here"
            )

    def submit(self, job: Job) -> None:
        """Upload the job's files, unless the cluster has them already, and submit the job.

        Raises:
            ClusterError: the cluster cannot be reached, or refuses the job.
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
        """Wait until the job ends; its status, exit code and message.

        Args:
            submission_id: the job's.
            write: receives the log as it arrives, each character once.
            say: receives a line when the connection is lost.

        Raises:
            ClusterError: the cluster has not answered for ten minutes; the job may still run.
        """
        with _explained(self.address), _quiet():
            return asyncio.run(self._follow(submission_id, _Log(write), say))

    async def _follow(self, submission_id: str, log: "_Log", say: Callable[[str], None]) -> JobEnd:
        reported_at = -1
        while True:
            fault = await self._tail(submission_id, log)
            if fault and log.num_written != reported_at:
                say(f"the connection was lost ({fault}): trying again")
                reported_at = log.num_written
            details = await self._details(submission_id)
            if details.status.is_terminal():
                if fault:
                    await self._tail(submission_id, log)
                return details
            await asyncio.sleep(RETRY_SECONDS)

    async def _tail(self, submission_id: str, log: "_Log") -> str:
        """Copy the log from its start until the job ends; what interrupted it, or an empty text."""
        log.rewind()
        stream = self._client.tail_job_logs(submission_id)
        while True:
            chunk = asyncio.ensure_future(anext(stream, None))
            try:
                while not (await asyncio.wait({chunk}, timeout=SILENT_SECONDS))[0]:
                    await asyncio.to_thread(self._client.ray_version)
                text = chunk.result()
            except LOST as error:
                return _one_line(error)
            finally:
                chunk.cancel()
            if text is None:
                return ""
            log.feed(text)

    async def _details(self, submission_id: str) -> JobEnd:
        """The job's details, as soon as the cluster answers."""
        started, wait_seconds = time.monotonic(), RETRY_SECONDS
        while True:
            try:
                return await asyncio.to_thread(self._client.get_job_info, submission_id)
            except LOST:
                if time.monotonic() - started > GIVE_UP_SECONDS:
                    raise
                await asyncio.sleep(wait_seconds)
                wait_seconds = min(2 * wait_seconds, LONGEST_WAIT_SECONDS)


class _Client(JobSubmissionClient):
    """Ray's client, with time limits, and for the address that it is given whatever Ray's variables say."""

    def __init__(self, address: str) -> None:
        variables = {name: os.environ.pop(name, None) for name in ADDRESS_VARIABLES}
        try:
            super().__init__(address)
        finally:
            os.environ.update(
                {name: value for name, value in variables.items() if value is not None}
            )

    def _do_request(self, *arguments: Any, **settings: Any) -> Any:
        limits = {"timeout": (CONNECT_SECONDS, ANSWER_SECONDS)}
        return super()._do_request(*arguments, **{**limits, **settings})

    def ray_version(self) -> str:
        return cast("str", self._do_request("GET", "/api/version").json()["ray_version"])


class _Log:
    """A text that is written once, although every reconnection reads it from its start again."""

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
    """Turn what Ray and the network raise in the block into one message."""
    try:
        yield
    except AuthenticationError as error:
        raise ClusterError(_why_rejected(address, error.message)) from error
    except (KeyError, ValueError) as error:  # an answer, but not Ray's
        raise ClusterError(
            f"the server at {address} is not a Ray dashboard ({_one_line(error)}): give the address "
            "of the head node's dashboard, such as http://head:8265"
        ) from error
    except LOST as error:
        raise ClusterError(
            f"{address} cannot be used ({_one_line(error)}): check --address (http://head:8265, the "
            "head node's dashboard), that the cluster runs, and that this machine can reach it"
        ) from error


def _why_rejected(address: str, reason: str) -> str:
    """The server refuses the token or asks for one, or Ray's client has none to send."""
    if "Forbidden" in reason:
        return f"the cluster at {address} rejects our token: {HOW_TO_AUTHENTICATE}"
    if "Unauthorized" in reason:
        return f"the cluster at {address} asks for its token: {HOW_TO_AUTHENTICATE}"
    return f"there is no token to send to {address} ({reason}): {HOW_TO_AUTHENTICATE}"


@contextmanager
def _quiet() -> Iterator[None]:
    """Hide the client's messages about every upload; what its warnings announce is raised as well."""
    level = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(level)


def _one_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
