"""A process among the training workers."""

from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel


@dataclass(frozen=True)
class Worker:
    """Rank, world size and device; alone by default, so that the loop runs without any launcher."""

    rank: int = 0
    world_size: int = 1
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))

    @property
    def leads(self) -> bool:
        """Whether this worker writes checkpoints, metrics and models."""
        return self.rank == 0

    def prepare(self, module: nn.Module) -> nn.Module:
        """Move to the device; with several workers, average gradients over them.

        Whatever takes a gradient must take part in every step: frozen parameters are known by
        their `requires_grad`, so nobody searches for unused ones. Buffers stay as they are.
        """
        module = module.to(self.device)
        if self.world_size == 1:
            return module
        return DistributedDataParallel(
            module,
            device_ids=[self.device] if self.device.type == "cuda" else None,
            broadcast_buffers=False,
            gradient_as_bucket_view=True,
        )

    @property
    def memory_bytes(self) -> int | None:
        """Of the GPU; `None` on a CPU."""
        if self.device.type != "cuda":
            return None
        return torch.cuda.get_device_properties(self.device).total_memory

    def autocast(self, precision: str) -> AbstractContextManager[Any]:
        """bfloat16 where `training.precision` asks for it; "auto" means on a GPU."""
        wanted = precision == "bfloat16" or (precision == "auto" and self.device.type == "cuda")
        return torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=wanted)

    def sum(self, values: torch.Tensor) -> torch.Tensor:
        """The sum over workers, on every one of them."""
        if self.world_size > 1:
            dist.all_reduce(values)
        return values

    def max(self, values: torch.Tensor) -> torch.Tensor:
        """The elementwise maximum over workers, on every one of them."""
        if self.world_size > 1:
            dist.all_reduce(values, dist.ReduceOp.MAX)
        return values

    def barrier(self) -> None:
        if self.world_size > 1:
            dist.barrier()
