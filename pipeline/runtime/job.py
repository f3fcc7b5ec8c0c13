"""A job on a Ray cluster, through Ray's own client, which speaks to the dashboard over HTTP."""

import asyncio
import logging
import os
import shlex
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
from ray.exceptions import AuthenticationError
from ray.job_submission import JobDetails, JobSubmissionClient

from pipeline.runtime.package import Package
from pipeline.runtime.session import HOW_TO_AUTHENTICATE, ClusterError, require_listener

# In Ray's client, and in `ray job`, this wins over an address that is given.
ADDRESS = "RAY_API_SERVER_ADDRESS"

# A connection on which nothing has come for so long may be dead without a sign: a new one is opened.
SILENT_SECONDS = 60.0
RETRY_SECONDS = 1.0
GIVE_UP_SECONDS = 600.0

# What a lost connection raises: for closed sockets and refusals Ray raises plain RuntimeErrors.
LOST = (OSError, RuntimeError, aiohttp.ClientError)

# What Ray says of a job: status, driver_exit_code (None if its command never ran), message.
JobEnd = JobDetails


class JobServer:
    """The dashboard of a Ray cluster at `address` (http://host:port), which accepts jobs.

    Raises:
        ClusterError: nothing answers at the address, it is not a dashboard, or it rejects our token.
    """

    def __init__(self, address: str) -> None:
        self.address = address
        require_listener(address)
        os.environ[ADDRESS] = address
        with _explained(address):
            self._client = JobSubmissionClient(address)

    def submit(
        self,
        submission_id: str,
        command: Sequence[str],
        package: Package,
        runtime_env: Mapping[str, Any],
    ) -> None:
        """Upload the package, unless the cluster has it already, and start the job in its folder.

        Raises:
            ClusterError: the cluster cannot be reached, or refuses the job.
        """
        with tempfile.TemporaryDirectory(prefix="job-") as scratch:
            archive = Path(scratch) / "package.zip"
            package.write(archive)
            with _explained(self.address):
                self._client.submit_job(
                    entrypoint=shlex.join(command),
                    submission_id=submission_id,
                    runtime_env={**runtime_env, "working_dir": str(archive)},
                )

    def command_to(self, *action: str) -> str:
        """The `ray job` command for `logs --follow`, `status` or `stop`, for a shell."""
        return f"{ADDRESS}={self.address} {shlex.join(['ray', 'job', *action])}"

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
        with _explained(self.address):
            return asyncio.run(_Follower(self._client, submission_id, write, say).follow())


@dataclass
class _Follower:
    """Writes a job's log once, although every connection reads it from its start again."""

    client: JobSubmissionClient
    submission_id: str
    write: Callable[[str], None]
    say: Callable[[str], None]
    num_written: int = 0
    reported_at: int = -1

    async def follow(self) -> JobEnd:
        while True:
            has_ended = await self._tail()
            details = await self._details()
            if details.status.is_terminal():
                if not has_ended and not await self._tail():
                    self.say("the last lines of the log may be missing")
                return details
            await asyncio.sleep(RETRY_SECONDS)

    async def _tail(self) -> bool:
        """Write the log until it ends, is silent or is interrupted; return whether it has ended."""
        position = 0
        log = self.client.tail_job_logs(self.submission_id)
        try:
            while text := await asyncio.wait_for(anext(log, ""), SILENT_SECONDS):
                known = max(0, self.num_written - position)
                position += len(text)
                if known < len(text):
                    self.write(text[known:])
                    self.num_written = position
        except TimeoutError:
            return False
        except LOST as error:
            self._report(error)
            return False
        return True

    def _report(self, error: Exception) -> None:
        """Say that the connection was lost, once for each place in the log."""
        if self.reported_at != self.num_written:
            self.reported_at = self.num_written
            self.say(f"the connection was lost ({_one_line(error)}): trying again")

    async def _details(self) -> JobEnd:
        """The job's details, as soon as the cluster answers."""
        started = time.monotonic()
        while True:
            try:
                return await asyncio.to_thread(self.client.get_job_info, self.submission_id)
            except LOST:
                if time.monotonic() - started > GIVE_UP_SECONDS:
                    raise
                await asyncio.sleep(RETRY_SECONDS)


@contextmanager
def _explained(address: str) -> Iterator[None]:
    """Turn what Ray and the network raise in the block into one message, and hide Ray's own."""
    level = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    except AuthenticationError as error:
        raise ClusterError(
            f"{address} rejects this machine ({_one_line(error.message)}): {HOW_TO_AUTHENTICATE}"
        ) from error
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
    finally:
        logging.disable(level)


def _one_line(error: object) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
