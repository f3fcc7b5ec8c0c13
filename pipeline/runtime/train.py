"""Ray Train: the same function on every training worker, restarted together after a failure.

Checkpoints are the function's own affair (see `training.store`): after a lost worker or node the
function runs again and goes on from its last one, exactly as after a restart of the driver.
"""

import tempfile
from collections.abc import Callable
from typing import Any

import ray.train
import ray.train.torch
import torch
from ray.train import FailureConfig, LoggingConfig, RunConfig, ScalingConfig
from ray.train.torch import TorchTrainer

from pipeline.config import Cluster
from pipeline.training.worker import Worker


def run_workers(
    function: Callable[[dict[str, Any]], dict[str, float]],
    settings: dict[str, Any],
    cluster: Cluster,
    name: str,
) -> dict[str, float]:
    """Run `function(settings)` on `cluster.training_workers` workers; what rank 0 returns.

    `settings` must be picklable. A worker or node lost in between restarts all of them, at most
    `cluster.max_failures` times; an error that the function raises itself is raised here.
    """
    resources = {"CPU": cluster.cpus_per_worker}
    if cluster.gpus_per_worker:
        resources["GPU"] = cluster.gpus_per_worker
    with tempfile.TemporaryDirectory(prefix="ray-train-") as scratch:
        trainer = TorchTrainer(
            function,
            train_loop_config={**settings, "cpus_per_worker": cluster.cpus_per_worker},
            scaling_config=ScalingConfig(
                num_workers=cluster.training_workers,
                use_gpu=cluster.gpus_per_worker > 0,
                resources_per_worker=resources,
            ),
            # Ray wants a place for checkpoints reported to it; ours lie in the stage's output.
            run_config=RunConfig(
                name=name,
                storage_path=scratch,
                failure_config=FailureConfig(max_failures=cluster.max_failures),
                logging_config=LoggingConfig(log_level="WARNING"),
            ),
        )
        return dict(trainer.fit().return_value or {})


def worker(settings: dict[str, Any]) -> Worker:
    """This process's place, for use inside a function run by `run_workers`."""
    torch.set_num_threads(max(1, int(settings["cpus_per_worker"])))
    context = ray.train.get_context()
    return Worker(
        rank=context.get_world_rank(),
        world_size=context.get_world_size(),
        device=ray.train.torch.get_device(),
    )
