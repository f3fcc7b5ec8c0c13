"""Ray Train: the same function on every training worker, restarted together after a failure.

Checkpoints are the function's own affair (see `training.store`): after a lost worker or node the
function runs again and goes on from its last one, exactly as after a restart of the driver.
"""

import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import ray
import ray.train
import ray.train.torch
import torch
from ray.train import FailureConfig, LoggingConfig, RunConfig, ScalingConfig
from ray.train.torch import TorchTrainer

from pipeline.config import Cluster
from pipeline.graph.stage import say
from pipeline.training.worker import Worker

ROOM_CHECK_SECONDS = 10.0


def run_workers(
    function: Callable[[dict[str, Any]], dict[str, float]],
    settings: dict[str, Any],
    cluster: Cluster,
    name: str,
) -> dict[str, float]:
    """Run `function(settings)` on `cluster.training_workers` workers; what rank 0 returns.

    `settings` must be picklable. A worker or node lost in between restarts all of them, at most
    `cluster.max_failures` times, as soon as there is room for all; waiting for room counts for no
    failure, and a line says what is awaited. An error that the function raises itself is raised
    here.
    """
    resources = {"CPU": cluster.cpus_per_worker}
    if cluster.gpus_per_worker:
        resources["GPU"] = cluster.gpus_per_worker
    with (
        tempfile.TemporaryDirectory(prefix="ray-train-") as scratch,
        _word_of_missing_room(resources, cluster.training_workers, name),
    ):
        trainer = TorchTrainer(
            function,
            train_loop_config={**settings, "cpus_per_worker": cluster.cpus_per_worker},
            scaling_config=ScalingConfig(
                num_workers=cluster.training_workers,
                use_gpu=cluster.gpus_per_worker > 0,
                resources_per_worker=resources,
            ),
            # Ray wants a place for checkpoints reported to it; ours lie in the stage's output. It
            # is of this node alone, which Ray minds only when a worker does report one.
            run_config=RunConfig(
                name=name,
                storage_path=scratch,
                failure_config=FailureConfig(
                    max_failures=cluster.max_failures,
                    # Workers that find no room within a minute: Ray asks again, without end.
                    controller_failure_limit=-1,
                ),
                logging_config=LoggingConfig(log_level="WARNING"),
            ),
        )
        return dict(trainer.fit().return_value or {})


def room(nodes: Sequence[Mapping[str, Any]], resources: Mapping[str, float]) -> int:
    """How many workers of `resources` the nodes that are alive have room for, were they idle.

    `nodes` are as `ray.nodes()` gives them.
    """
    return sum(
        min(int(node["Resources"].get(kind, 0.0) / amount) for kind, amount in resources.items())
        for node in nodes
        if node["Alive"]
    )


@contextmanager
def _word_of_missing_room(
    resources: Mapping[str, float], num_workers: int, name: str
) -> Iterator[None]:
    """While the block runs, say when nodes are missing for all workers, and when they are back."""
    over = threading.Event()

    def watch() -> None:
        missing = False
        while not over.is_set():
            try:
                found = room(ray.nodes(), resources)
            except Exception:  # noqa: BLE001 - Ray is gone, which the training will say
                return
            if missing != (found < num_workers):
                missing = not missing
                say(_missing(resources, num_workers, found, name) if missing else _back(name))
            over.wait(ROOM_CHECK_SECONDS)

    watcher = threading.Thread(target=watch, name="room-for-workers", daemon=True)
    watcher.start()
    try:
        yield
    finally:
        over.set()
        watcher.join()


def _missing(resources: Mapping[str, float], num_workers: int, found: int, name: str) -> str:
    each = ", ".join(f"{amount:g} {kind}" for kind, amount in resources.items())
    return (
        f"{name}: WARNING: {num_workers} training workers of {each} are wanted, and the nodes that "
        f"are alive have room for {found}. It waits for nodes, new ones or those that were lost, "
        f"and goes on by itself from the last checkpoint; to go on with what there is, stop the "
        f"run and give it again with --set cluster.training_workers={max(1, found)}"
    )


def _back(name: str) -> str:
    return f"{name}: there is room for all training workers again"


def worker(settings: dict[str, Any]) -> Worker:
    """This process's place, for use inside a function run by `run_workers`."""
    torch.set_num_threads(max(1, int(settings["cpus_per_worker"])))
    context = ray.train.get_context()
    return Worker(
        rank=context.get_world_rank(),
        world_size=context.get_world_size(),
        device=ray.train.torch.get_device(),
    )
