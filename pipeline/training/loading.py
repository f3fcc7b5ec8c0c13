"""Reading ahead of the training, in a thread or in processes."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset

from pipeline.config import Cluster
from pipeline.read_ahead import ahead
from pipeline.training.batches import Share
from pipeline.training.inputs import Example, Inputs, Source

# A micro-batch, and whether its losses count.
Micro = tuple[Inputs, bool]

# Requests that each process reads before they are needed.
AHEAD_OF_PROCESS = 2
# For a GPU, unless the config sets it: while one reads a slow batch, the other reads the next.
PROCESSES_FOR_GPU = 2


def loader_processes(cluster: Cluster, device: torch.device) -> int:
    """How many processes read for a worker on `device`; 0 means a thread."""
    if cluster.loader_processes is not None:
        return cluster.loader_processes
    return PROCESSES_FOR_GPU if device.type == "cuda" else 0


def loader_cache_bytes(cluster: Cluster, device: torch.device) -> int:
    """What each process may cache: it has a cache of its own, and all share the configured size."""
    return int(cluster.cache_gigabytes * 2**30) // max(1, loader_processes(cluster, device))


class LoaderLostError(RuntimeError):
    """A process that reads ahead has ended unexpectedly."""


@dataclass(frozen=True)
class Request:
    """What a worker reads for a step: its shares of the micro-batches, of one `split`.

    `epoch` is for sources that give an utterance otherwise in each epoch; none to validate.
    """

    split: str
    shares: tuple[Share, ...]
    epoch: int | None = None


class Loader:
    """Micro-batches of a source in the order of the requests, read ahead of their use.

    Processes start at the first reading and live as long as the loader. Each has a copy of the
    source with its own cache, reads a limited number of requests ahead, and ends within seconds of
    its parent, however that ends. They are spawned: a fork would copy the locks of the threads that
    storage and Parquet readers have started. With `num_processes` 0, a thread reads. If `device` is
    a GPU, processes put what they read into pinned memory. `examples` are those of each split.
    """

    def __init__(
        self,
        source: Source,
        examples: Mapping[str, Sequence[Example]],
        num_processes: int,
        device: torch.device,
    ) -> None:
        self._reading = _Reading(source, examples)
        self._order: list[Request] = []  # of the reading that is about to begin
        self._loader: DataLoader[Any] | None = None
        if num_processes:
            self._loader = DataLoader(
                self._reading,
                batch_size=None,
                sampler=self._order,
                num_workers=num_processes,
                prefetch_factor=AHEAD_OF_PROCESS,
                multiprocessing_context="spawn",
                persistent_workers=True,
                pin_memory=device.type == "cuda",
            )

    def read(self, requests: Sequence[Request]) -> Iterator[list[Micro]]:
        """The micro-batches of each request; one reading at a time.

        Raises:
            LoaderLostError: a process was killed, by a system out of memory for one.
        """
        if self._loader is None:
            yield from ahead(requests, self._reading.read)
            return
        self._order[:] = requests
        try:
            for micros in self._loader:
                if isinstance(micros, Exception):
                    raise micros
                yield micros
        except RuntimeError as error:
            if "DataLoader worker" not in str(error):
                raise
            raise LoaderLostError(
                f"a process that reads training data was lost ({error}): if it ran out of memory, "
                "lower cluster.cache_gigabytes or cluster.loader_processes (0 reads in a thread)"
            ) from error


class _Reading(Dataset[list[Micro] | Exception]):
    """What a loader process runs: from a request to its micro-batches."""

    def __init__(self, source: Source, examples: Mapping[str, Sequence[Example]]) -> None:
        self._source = source
        self._examples = examples

    def read(self, request: Request) -> list[Micro]:
        examples = self._examples[request.split]
        micros = []
        for share in request.shares:
            chosen = [examples[index] for index in share.indices]
            inputs = self._source.load(chosen, request.epoch)
            micros.append((replace(inputs, positions=share.positions), share.counted))
        return micros

    def __getitem__(self, request: Request) -> list[Micro] | Exception:
        # An error as a value: torch would put a traceback into its message.
        try:
            return self.read(request)
        except Exception as error:  # noqa: BLE001 - it is raised where the data is wanted
            return error
