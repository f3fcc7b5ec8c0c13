"""FSDP2: parameters, gradients and optimizer state in parts, one on each worker.

Checkpoints do not depend on it: `gathered` makes complete tensors before they are saved, and what is
loaded is cut again, for any number of workers.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor

from pipeline.training.learner import Learner
from pipeline.training.worker import Worker


def shard(model: Learner, worker: Worker) -> None:
    """Cut `model`, which is the same on all workers, into one part for each worker.

    Each Transformer block of the SSL model and each layer of the ASR model is gathered when it is
    used, the rest of the SSL model with the SSL model, and the rest at each forward pass. Frozen
    scalars are left out; the config rules out a learned one, which has no parts.
    """
    numbers = {p for p in model.parameters() if p.ndim == 0 and not p.requires_grad}
    mesh = init_device_mesh(worker.device.type, (worker.world_size,))
    for part in (*model.parts(), model):
        sharded = fully_shard(part, mesh=mesh, reshard_after_forward=True, ignored_params=numbers)
        if worker.device.type == "cpu":
            # Gloo can sum, but not average.
            sharded.set_force_sum_reduction_for_comms(enable=True)


def is_sharded(model: nn.Module) -> bool:
    return isinstance(model, FSDPModule)


def exchange_gradients(model: nn.Module, *, wanted: bool) -> None:
    """Whether the next backward pass of a sharded model ends with an exchange."""
    if isinstance(model, FSDPModule):
        model.set_requires_gradient_sync(wanted)


def gathered(value: Any, *, kept: bool = True) -> Any:
    """`value` with every sharded tensor in it complete and on the CPU; all workers must call.

    With `kept` false, a worker takes part and gets empty tensors instead.
    """
    if isinstance(value, DTensor):
        full = whole(value).detach()
        return full.cpu() if kept else full.new_empty(0)
    if isinstance(value, dict):
        return {key: gathered(item, kept=kept) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [gathered(item, kept=kept) for item in value]
    return value


def whole(tensor: Tensor) -> Tensor:
    """`tensor`, complete where it was in parts, on its device; all workers must call."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def load_weights(model: nn.Module, weights: dict[str, Tensor]) -> None:
    """Load complete tensors, the same on every worker, into a model that may be sharded."""
    own = model.state_dict()
    model.load_state_dict({name: cut(weights[name], own.get(name)) for name in weights})


def load_optimizer(optimizer: torch.optim.Optimizer, state: dict[str, Any]) -> None:
    """Load complete tensors into an optimizer of parameters that may be sharded."""
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    sharded = {
        index: {
            # The number of steps is no tensor of the parameter's shape.
            name: cut(item, parameters[index]) if item.shape == parameters[index].shape else item
            for name, item in of_one.items()
        }
        for index, of_one in state["state"].items()
    }
    optimizer.load_state_dict({**state, "state": sharded})


def cut(full: Tensor, like: Tensor | None) -> Tensor:
    """A complete tensor, the same on every worker, in parts as `like` is."""
    if not isinstance(like, DTensor):
        return full
    return distribute_tensor(
        full.to(like.device), like.device_mesh, like.placements, src_data_rank=None
    )
