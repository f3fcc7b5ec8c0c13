"""The validation split at the end of an epoch: losses with hard tokens and without dropout."""

import torch
from torch import Tensor

from pipeline.config import Config
from pipeline.training.batches import Share, sorted_batches
from pipeline.training.inputs import Example, durations
from pipeline.training.joint_model import JointModel
from pipeline.training.loading import Loader, Request
from pipeline.training.objective import LOSSES, Divisors, Objective
from pipeline.training.worker import Worker


@torch.no_grad()
def validate(
    config: Config, model: JointModel, loader: Loader, examples: list[Example], worker: Worker
) -> tuple[dict[str, float], Tensor | None]:
    """The losses over all workers, "loss" being the objective, and how often each unit occurs.

    Every worker must call.
    """
    model.eval()
    objective, divisors = Objective.of(config), Divisors.of(examples)
    parts = torch.zeros(len(LOSSES), dtype=torch.float64, device=worker.device)
    counts_K: Tensor | None = None
    requests = _requests(durations(examples), config.training.batch_seconds, worker)
    for [(inputs, counted)] in loader.read(requests):
        with worker.autocast(config.training.precision):
            sums = model(inputs.to(worker.device), tau=1.0, seed=0)
        parts += objective.parts(sums, divisors) * float(counted)
        if "counts_K" in sums:
            counts = sums["counts_K"] * int(counted)
            counts_K = counts if counts_K is None else counts_K + counts
    losses = objective.report(parts, worker)
    return losses, None if counts_K is None else worker.sum(counts_K)


def _requests(
    durations_seconds: list[float], batch_seconds: float, worker: Worker
) -> list[Request]:
    """This worker's batches in turn; the last round is filled up, so that all have as many.

    A sharded model's forward pass needs every worker.
    """
    batches = sorted_batches(durations_seconds, batch_seconds)
    own = [batch.share(0, 1, 0, 1) for batch in batches[worker.rank :: worker.world_size]]
    filling = Share(batches[0].indices[:1], (0,), counted=False)
    rounds = -(-len(batches) // worker.world_size)
    own += [filling] * (rounds - len(own))
    return [Request("valid", (share,)) for share in own]
