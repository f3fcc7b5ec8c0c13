"""A pool of Ray tasks: one function over many parts, results in the order of the parts."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import ray
import torch

from pipeline.config import Cluster
from pipeline.progress import SILENT, Progress


@dataclass(frozen=True)
class TaskPool:
    """At most `size` tasks at once, each with a worker's CPUs and GPUs."""

    size: int
    cluster: Cluster
    progress: Progress = SILENT

    def map(
        self, unit: str, function: Callable[..., Any], parts: Sequence[Any], *shared: Any
    ) -> Iterator[Any]:
        """`function(part, *shared)` for each part, in the order of `parts`.

        A part whose worker or node is lost is computed again, up to `cluster.max_failures` times;
        what a task raises is raised here.

        Args:
            unit: what the progress counts, such as "coresets"; "" where the caller reports.
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
        references: list[Any] = []  # ray.ObjectRef[Any], or None once its result is out
        running: list[ray.ObjectRef[Any]] = []
        try:
            for index in range(len(parts)):
                while index >= len(references) or references[index] in running:
                    while len(running) < self.size and len(references) < len(parts):
                        part = parts[len(references)]
                        references.append(remote.remote(function, threads, part, *held))
                        running.append(references[-1])
                    running = ray.wait(running, num_returns=1)[1]
                yield ray.get(references[index])
                references[index] = None
                if unit:
                    self.progress.update(index + 1, len(parts), unit)
        finally:
            for reference in running:
                ray.cancel(reference)


def _on_worker(function: Callable[..., Any], threads: int, part: Any, *shared: Any) -> Any:
    torch.set_num_threads(threads)
    return function(part, *shared)
