"""Shards on a pool of workers (Ray Data), or in the calling process."""

import json
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol

import pyarrow as pa
import ray
import torch

from pipeline.audio.utterance import Utterance, from_table, to_table
from pipeline.config import Cluster
from pipeline.corpus.shards import Shard
from pipeline.errors import is_for_user
from pipeline.progress import SILENT, Progress
from pipeline.storage.table_schemas import SENT

Row = dict[str, Any]

# In each worker at once: one shard in the model, one being decoded, one being written. These are
# what a lost worker costs, and what its memory must hold.
SHARDS_IN_FLIGHT = 3


class ShardError(RuntimeError):
    """A worker raised one of the project's own errors; its message says which."""


class ShardWorker(Protocol):
    """Writes a shard, or keeps it if it is complete; called from SHARDS_IN_FLIGHT threads."""

    def __call__(self, name: str, utterances: list[Utterance]) -> dict[str, Any]: ...


def run_shards(
    worker_class: Callable[..., ShardWorker],
    worker_arguments: dict[str, Any],
    shards: Sequence[Shard],
    cluster: Cluster,
    progress: Progress = SILENT,
    *,
    num_workers: int | None = None,
) -> list[dict[str, Any]]:
    """Pass every shard through a pool of `worker_class(**worker_arguments)`.

    There are `num_workers` of them, by default those that extract features. With none, the calling
    process is the worker, and Ray is not needed.

    Workers load their model once. Which worker writes a shard must not change its content. A worker
    that is lost, alone or with its machine, starts again where there is room, at the latest when
    another has finished; its unfinished shards are done again. The calling process holds the
    workers' arguments, so it should run on the driver's machine.

    Returns:
        What the workers returned for each shard (JSON values), in the order of `shards`.

    Raises:
        ShardError: a worker raised one of the project's own errors.
    """
    size = cluster.extraction_workers if num_workers is None else num_workers
    work = (worker_class, worker_arguments)
    if size:
        found = _from_pool(*work, shards, cluster, min(size, len(shards)))
    else:
        found = _from_here(*work, shards)
    hours = {shard.name: _seconds(shard) / 3600 for shard in shards}
    results: dict[str, dict[str, Any]] = {}
    for name, result in found:
        results[name] = result
        hours_done = sum(hours[name] for name in results)
        progress.update(hours_done, sum(hours.values()), "h of audio", f"{len(results)} shards")
    return [results[shard.name] for shard in shards]


def _from_here(
    worker_class: Callable[..., ShardWorker],
    worker_arguments: dict[str, Any],
    shards: Sequence[Shard],
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Each shard's name and result, computed by this process."""
    worker = worker_class(**worker_arguments)
    for shard in shards:
        yield shard.name, worker(shard.name, list(shard.utterances))


def _from_pool(
    worker_class: Callable[..., ShardWorker],
    worker_arguments: dict[str, Any],
    shards: Sequence[Shard],
    cluster: Cluster,
    size: int,
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Each shard's name and result, as one of `size` workers completes it."""
    rows = [{"name": shard.name, "utterances": _pack(list(shard.utterances))} for shard in shards]
    constructor = (worker_class, worker_arguments, cluster.cpus_per_worker)
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    # By default, a worker that is lost while it loads its model fails the stage.
    context.max_consecutive_actor_init_deaths = cluster.max_failures
    dataset = ray.data.from_items(rows, override_num_blocks=len(rows)).map(
        _ShardActor,  # type: ignore[arg-type] # map() takes classes too
        fn_constructor_args=constructor,
        compute=ray.data.ActorPoolStrategy(
            size=size,
            max_concurrent_calls_per_actor=SHARDS_IN_FLIGHT,
            max_tasks_in_flight_per_actor=SHARDS_IN_FLIGHT,
            enable_true_multi_threading=True,
        ),
        num_cpus=cluster.cpus_per_worker,
        num_gpus=cluster.gpus_per_worker,
    )
    for row in dataset.iter_rows():
        if row["error"]:
            raise ShardError(row["error"])
        yield row["name"], json.loads(row["result"])


def _seconds(shard: Shard) -> float:
    return sum(utterance.duration for utterance in shard.utterances)


class _ShardActor:
    """A shard worker as Ray Data calls it."""

    def __init__(
        self,
        worker_class: Callable[..., ShardWorker],
        worker_arguments: dict[str, Any],
        num_cpus: float,
    ) -> None:
        torch.set_num_threads(max(1, int(num_cpus)))
        self._error: Exception | None = None
        try:
            self._worker = worker_class(**worker_arguments)
        except Exception as error:  # noqa: BLE001 - from here, Ray Data would replace the worker
            self._error = error

    def __call__(self, row: Row) -> Row:
        name = row["name"]
        try:
            result = self._work(name, _unpack(row["utterances"]))
        except Exception as error:
            # Ray Data would deliver only its own wrapper of the error and a page of traceback.
            if not is_for_user(error):
                raise
            return {"name": name, "result": "", "error": str(error)}
        return {"name": name, "result": json.dumps(result), "error": ""}

    def _work(self, name: str, utterances: list[Utterance]) -> dict[str, Any]:
        if self._error is not None:
            raise self._error
        return self._worker(name, utterances)


def _pack(utterances: list[Utterance]) -> bytes:
    """Utterances as Arrow bytes, a column that Ray Data moves without parsing it."""
    table = to_table(utterances, SENT)
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return bytes(sink.getvalue())


def _unpack(packed: bytes) -> list[Utterance]:
    with pa.ipc.open_stream(packed) as reader:
        return from_table(reader.read_all())
