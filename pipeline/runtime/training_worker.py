"""What one process among the training workers does, whoever has started it."""

from collections.abc import Callable

import torch

from pipeline.graph.stage import StageContext
from pipeline.training.worker import Worker


def work(
    train: Callable[..., dict[str, float]], context: StageContext, worker: Worker
) -> dict[str, float]:
    """Call `train` as `worker`, on the CPUs that the config gives to each; return its scores."""
    threads = torch.get_num_threads()
    torch.set_num_threads(max(1, int(context.config.cluster.cpus_per_worker)))
    try:
        return train(
            context.config,
            context.inputs,
            context.output,
            worker,
            log=context.log,
            progress=context.progress,
        )
    finally:
        torch.set_num_threads(threads)
        context.log.flush()
