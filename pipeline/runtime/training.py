"""A training on its workers: those of Ray Train, or this process where one is enough."""

from collections.abc import Callable

import torch

from pipeline.graph.stage import StageContext
from pipeline.runtime.training_worker import work
from pipeline.training.worker import Worker


def run_training(
    train: Callable[..., dict[str, float]], context: StageContext, stage: str
) -> dict[str, float]:
    """Run `train` on `cluster.training_workers` workers; return what rank 0 returns.

    It is called as `train(config, inputs, output, worker, log=…, progress=…)`. For one worker Ray
    Train would start five processes, which all load for seconds: this process takes its place, and
    holds what it would (see `Node.own_resources`). Where it is lost, the stage starts again, and
    resumes from its last checkpoint as after the loss of one worker of several.
    """
    cluster = context.config.cluster
    if cluster.training_workers == 1:
        device = torch.device("cuda:0" if cluster.gpus_per_worker else "cpu")
        return work(train, context, Worker(device=device))
    from pipeline.runtime.ray_train import run_workers  # imports Ray Train, which takes two seconds

    return run_workers(train, context, stage)
