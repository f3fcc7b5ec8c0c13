"""Ray Data: one row of work after the other on a pool of workers, results as they come."""

import json
import time
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import pyarrow as pa
import ray
import torch

from pipeline.audio.utterance import Utterance, from_table, to_table
from pipeline.config import Cluster
from pipeline.errors import is_for_user
from pipeline.features.extraction import Shard

Row = dict[str, Any]

# In each worker at once: one shard in the model, one that is decoded, one that is written. What is
# under way is all that a lost worker costs, and what its memory must hold.
SHARDS_IN_FLIGHT = 3


class ShardError(RuntimeError):
    """What stopped a worker, in the words of the project's own error."""


class ShardWorker(Protocol):
    """What a worker does with a shard: write it, or keep it where it is whole.

    Called from SHARDS_IN_FLIGHT threads.
    """

    def __call__(self, name: str, utterances: list[Utterance]) -> dict[str, Any]: ...


def run_shards(
    worker_class: Callable[..., ShardWorker],
    worker_arguments: dict[str, Any],
    shards: Sequence[Shard],
    cluster: Cluster,
    say: Callable[[str], None],
) -> list[dict[str, Any]]:
    """Every shard through a pool of `worker_class(**worker_arguments)`.

    Workers load their model once. What the files hold must not depend on who wrote them. A worker
    that is lost, alone or with its machine, starts again where there is room, at the latest when
    another has no more to do; what it had under way is done again. What it starts from is held by
    the calling process, so that should live on the driver's machine.

    Returns:
        What the workers said of each shard (JSON values), in the order of `shards`.

    Raises:
        ShardError: a worker met one of the project's own errors.
    """
    rows = [{"name": shard.name, "utterances": _pack(list(shard.utterances))} for shard in shards]
    constructor = (worker_class, worker_arguments, cluster.cpus_per_worker)
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    # Else a worker that is lost while it loads its model takes the whole stage along.
    context.max_consecutive_actor_init_deaths = cluster.max_failures
    dataset = ray.data.from_items(rows, override_num_blocks=len(rows)).map(
        _ShardActor,  # type: ignore[arg-type] # map() takes classes too
        fn_constructor_args=constructor,
        compute=ray.data.ActorPoolStrategy(
            size=min(cluster.extraction_workers, len(shards)),
            max_concurrent_calls_per_actor=SHARDS_IN_FLIGHT,
            max_tasks_in_flight_per_actor=SHARDS_IN_FLIGHT,
            enable_true_multi_threading=True,
        ),
        num_cpus=cluster.cpus_per_worker,
        num_gpus=cluster.gpus_per_worker,
    )
    done: dict[str, dict[str, Any]] = {}
    started = time.monotonic()
    for row in dataset.iter_rows():
        if row["error"]:
            raise ShardError(row["error"])
        done[row["name"]] = json.loads(row["result"])
        if len(done) * 10 // len(shards) > (len(done) - 1) * 10 // len(shards):
            seconds = time.monotonic() - started
            say(f"{len(done)} of {len(shards)} shards, {seconds:.0f} s")
    return [done[shard.name] for shard in shards]


class _ShardActor:
    """A shard worker as Ray Data calls it."""

    def __init__(
        self,
        worker_class: Callable[..., ShardWorker],
        worker_arguments: dict[str, Any],
        num_cpus: float,
    ) -> None:
        torch.set_num_threads(max(1, int(num_cpus)))
        self._worker = worker_class(**worker_arguments)

    def __call__(self, row: Row) -> Row:
        name = row["name"]
        try:
            result = self._worker(name, _unpack(row["utterances"]))
        except Exception as error:
            # Ray Data would bring home its own wrapper alone, and a page of traceback.
            if not is_for_user(error):
                raise
            return {"name": name, "result": "", "error": str(error)}
        return {"name": name, "result": json.dumps(result), "error": ""}


def _pack(utterances: list[Utterance]) -> bytes:
    """Utterances as Arrow bytes: a column that Ray Data moves without looking into it."""
    table = to_table(utterances)
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return bytes(sink.getvalue())


def _unpack(packed: bytes) -> list[Utterance]:
    with pa.ipc.open_stream(packed) as reader:
        return from_table(reader.read_all())
