"""Random SIGKILLs of the driver, its workers and complete nodes change no result."""

import os
import random
import signal
import subprocess
import time

import psutil
import pytest
from cluster_runs import PATIENCE_SECONDS, Surroundings, losses, scores, tokens

pytestmark = [pytest.mark.slow, pytest.mark.soak, pytest.mark.timeout(5400)]

KILLS = 20


def test_twenty_random_kills_change_no_result(there, undisturbed):
    chance = random.Random(0)  # noqa: S311 (no secret)
    done: list[str] = []
    while len(done) < KILLS:
        storage = f"s3://bucket/killed-{len(done)}"
        done += _RunUnderKills(there, storage, chance).run(KILLS - len(done))
        assert tokens(storage) == undisturbed.tokens, done
        assert losses(storage) == undisturbed.losses, done
        assert scores(storage) == undisturbed.scores, done
    print(done)
    assert set(done) == {"driver", "worker", "node"}


class _RunUnderKills:
    """A run that is submitted again until it succeeds, whatever is killed meanwhile."""

    def __init__(self, there: Surroundings, storage: str, chance: random.Random) -> None:
        self.there = there
        self.storage = storage
        self.chance = chance
        self.done: list[str] = []
        self.driver_killed = False

    def run(self, most: int) -> list[str]:
        """Kill at most `most` times until the run is complete; returns what was killed."""
        deadline = time.monotonic() + 10 * PATIENCE_SECONDS
        job = self._submit()
        try:
            while not self._has_ended_well(job):
                assert time.monotonic() < deadline, self._log()
                if job.poll() is not None:
                    job = self._submit()
                elif len(self.done) < most:
                    self._kill(self.chance.choice(["driver", "worker", "node"]))
        finally:
            job.kill()
            job.wait()
        return self.done

    def _submit(self) -> subprocess.Popen:
        self.driver_killed = False
        return self.there.start(self.storage, log=self.there.folder.parent / "job.log")

    def _has_ended_well(self, job: subprocess.Popen) -> bool:
        """Whether it has succeeded after a while; it may fail only if its driver was killed."""
        try:
            job.wait(self.chance.uniform(2, 20))
        except subprocess.TimeoutExpired:
            return False
        assert job.returncode == 0 or self.driver_killed, self._log()
        return job.returncode == 0

    def _log(self) -> str:
        return f"{self.done}\n{(self.there.folder.parent / 'job.log').read_text()}"

    def _kill(self, what: str) -> None:
        if what == "node":
            self.there.kill_a_node()
            self.there.cluster.add_node()
        else:
            found = self._processes(what)
            if not found:  # the job has not started, or is between two stages
                return
            with_pid = self.chance.choice(sorted(process.pid for process in found))
            os.kill(with_pid, signal.SIGKILL)
            self.driver_killed |= what == "driver"
        self.done.append(what)
        print(f"{len(self.done)}: {what} of {self.storage}", flush=True)

    def _processes(self, what: str) -> list[psutil.Process]:
        """The job's drivers or its workers, on all nodes."""
        found = []
        for process in self.there.cluster.processes():
            try:
                title = " ".join(process.cmdline())
            except psutil.Error:
                continue
            if what == "driver" and title.startswith("python -m pipeline run "):
                found.append(process)
            if what == "worker" and _works(title):
                found.append(process)
        return found


# Not workers: a job dies with its supervisor, and a node with its agents.
LEFT_ALONE = ("ray::IDLE", "ray::JobSupervisor", "ray::DashboardAgent", "ray::RuntimeEnvAgent")


def _works(title: str) -> bool:
    """Whether a process with this title works for a job."""
    return title.startswith("ray::") and not title.startswith(LEFT_ALONE)
