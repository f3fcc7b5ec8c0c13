"""Ray Train: the same function on every training worker; after a failure all restart together.

The function writes its own checkpoints (see `training.checkpoint_store`): after a lost worker or
node it runs again and resumes from the last one, exactly as after a restart of the driver.
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
from ray.train import (
    ControllerError,
    FailureConfig,
    LoggingConfig,
    RunConfig,
    ScalingConfig,
    UserCallback,
)
from ray.train.torch import TorchTrainer

from pipeline.graph.stage import StageContext
from pipeline.progress import Progress
from pipeline.runtime.training_worker import work
from pipeline.training.worker import Worker

ROOM_CHECK_SECONDS = 10.0
# In a RuntimeError: a connection of gloo's, and a process of PyTorch's data loader.
LOST_TEXTS = ("/gloo/", "DataLoader worker")


def run_workers(
    train: Callable[..., dict[str, float]], context: StageContext, stage: str
) -> dict[str, float]:
    """Run `train` on `cluster.training_workers` workers; return what rank 0 returns.

    It is called as `pipeline.runtime.training.run_training` says. When a worker or
    node is lost, all workers restart, at most `cluster.max_failures` times, as soon as there is
    room for all. Waiting for room is not a failure, and a message says what it waits for. An error
    that the function raises of itself is raised here, at once.
    """
    cluster = context.config.cluster
    resources = {"CPU": cluster.cpus_per_worker}
    if cluster.gpus_per_worker:
        resources["GPU"] = cluster.gpus_per_worker
    with (
        tempfile.TemporaryDirectory(prefix="ray-train-") as scratch,
        _missing_room_messages(resources, cluster.training_workers, context.progress),
    ):
        trainer = TorchTrainer(
            _on_worker,
            train_loop_config={"train": train, "context": context},
            scaling_config=ScalingConfig(
                num_workers=cluster.training_workers,
                use_gpu=cluster.gpus_per_worker > 0,
                resources_per_worker=resources,
            ),
            # Ray requires a folder for checkpoints reported to it; ours are in the stage's output.
            # It may be local to this node as long as no worker reports any.
            run_config=RunConfig(
                name=f"{stage}-{context.config.variant}",
                storage_path=scratch,
                failure_config=FailureConfig(
                    max_failures=cluster.max_failures,
                    # If workers find no room within a minute, Ray tries again, without a limit.
                    controller_failure_limit=-1,
                ),
                logging_config=LoggingConfig(log_level="WARNING"),
                callbacks=[_OwnErrors()],
            ),
        )
        try:
            return dict(trainer.fit().return_value or {})
        except ControllerError as error:
            raise error.controller_failure from error


class _OwnErrors(UserCallback):  # type: ignore[misc] # Ray Train ships no types
    """Ends the training at an error that a worker's function raises of itself.

    Ray would start all workers again, as after a loss, and the same error would come again.
    """

    def after_exception(
        self,
        run_context: Any,  # noqa: ARG002 - Ray's interface
        worker_exceptions: Mapping[int, Exception],
    ) -> None:
        for error in worker_exceptions.values():
            if not is_loss(error):
                raise error


def is_loss(error: Exception) -> bool:
    """Whether a training worker failed because a process was lost: its own, a peer's or a reader's.

    Ray reports a dead worker by errors of its own. Peers see a cut connection: an error of
    torch.distributed, or of gloo, which is known by its text alone.
    """
    if type(error).__module__.startswith("ray.") or isinstance(error, torch.distributed.DistError):
        return True
    return isinstance(error, RuntimeError) and any(text in str(error) for text in LOST_TEXTS)


def room(nodes: Sequence[Mapping[str, Any]], resources: Mapping[str, float]) -> int:
    """How many workers of `resources` would fit on the live nodes if those were idle.

    `nodes` come from `ray.nodes()`.
    """
    return sum(
        min(int(node["Resources"].get(kind, 0.0) / amount) for kind, amount in resources.items())
        for node in nodes
        if node["Alive"]
    )


@contextmanager
def _missing_room_messages(
    resources: Mapping[str, float], num_workers: int, progress: Progress
) -> Iterator[None]:
    """During the block, send a message when nodes for all workers are missing, and when not."""
    over = threading.Event()

    def watch() -> None:
        missing = False
        while not over.is_set():
            try:
                num_fitting = room(ray.nodes(), resources)
            except Exception:  # noqa: BLE001 - Ray is gone, which the training will report
                return
            if missing != (num_fitting < num_workers):
                missing = not missing
                progress.message(
                    _missing(resources, num_workers, num_fitting)
                    if missing
                    else "has room for all training workers again"
                )
            over.wait(ROOM_CHECK_SECONDS)

    watcher = threading.Thread(target=watch, name="room-for-workers", daemon=True)
    watcher.start()
    try:
        yield
    finally:
        over.set()
        watcher.join()


def _missing(resources: Mapping[str, float], num_workers: int, num_fitting: int) -> str:
    each = ", ".join(f"{amount:g} {kind}" for kind, amount in resources.items())
    return (
        f"waits for nodes: it needs {num_workers} training workers of {each}, and the live nodes "
        f"have room for {num_fitting}. It resumes by itself from the last checkpoint; to continue "
        f"with the nodes there are, stop the run and start it again with "
        f"--set cluster.training_workers={max(1, num_fitting)}"
    )


def _on_worker(job: dict[str, Any]) -> dict[str, float]:
    """What Ray calls in each worker's process."""
    ray_context = ray.train.get_context()
    worker = Worker(
        rank=ray_context.get_world_rank(),
        world_size=ray_context.get_world_size(),
        device=ray.train.torch.get_device(),
    )
    return work(job["train"], job["context"], worker)
