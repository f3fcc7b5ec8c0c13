"""A pool of Ray tasks: one function over many parts, results in the order of the parts."""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import ray
import torch

from pipeline.config import Cluster

SECONDS_BETWEEN_LINES = 30.0


@dataclass(frozen=True)
class TaskPool:
    """At most `size` tasks at once, each with a worker's CPUs and GPUs."""

    size: int
    cluster: Cluster
    say: Callable[[str], None]

    def map(
        self, what: str, function: Callable[..., Any], parts: Sequence[Any], *shared: Any
    ) -> Iterator[Any]:
        """`function(part, *shared)` for each part, in the order of `parts`.

        A part whose worker or node is lost is done again, up to `cluster.max_failures` times;
        what a task raises is raised here.

        Args:
            what: named in a line of progress, every half minute.
            function: importable by the workers.
            parts: values, or what `ray.put` returned; one task each.
            shared: the same for all tasks, sent once.
        """
        remote = ray.remote(_on_worker).options(
            num_cpus=self.cluster.cpus_per_worker,
            num_gpus=self.cluster.gpus_per_worker,
            max_retries=self.cluster.max_failures,
        )
        threads = max(1, int(self.cluster.cpus_per_worker))
        held = [ray.put(value) for value in shared]
        started = spoken = time.monotonic()
        references: list[Any] = []  # ray.ObjectRef[Any], or None once its result is out
        running: list[ray.ObjectRef[Any]] = []
        try:
            for place in range(len(parts)):
                while place >= len(references) or references[place] in running:
                    while len(running) < self.size and len(references) < len(parts):
                        part = parts[len(references)]
                        references.append(remote.remote(function, threads, part, *held))
                        running.append(references[-1])
                    running = ray.wait(running, num_returns=1)[1]
                yield ray.get(references[place])
                references[place] = None
                if time.monotonic() - spoken > SECONDS_BETWEEN_LINES:
                    spoken = time.monotonic()
                    self.say(f"{what}: {place + 1} of {len(parts)}, {spoken - started:.0f} s")
        finally:
            for reference in running:
                ray.cancel(reference)


def _on_worker(function: Callable[..., Any], threads: int, part: Any, *shared: Any) -> Any:
    torch.set_num_threads(threads)
    return function(part, *shared)
