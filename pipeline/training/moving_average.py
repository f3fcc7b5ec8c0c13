"""An exponential moving average of a model's weights over the steps (EMA)."""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from pipeline.training.sharding import cut


class MovingAverage:
    """average <- d * average + (1 - d) * weights, of whatever of `model` requires a gradient now.

    d is that of `move_towards`. The weights themselves train on as if there were none. Without a
    `decay` nothing is averaged or held.
    """

    def __init__(self, model: nn.Module, decay: float | None) -> None:
        self._decay = decay
        learning = [(n, p) for n, p in model.named_parameters() if p.requires_grad]
        self._learning = dict(learning if decay is not None else [])
        self.weights = {name: weight.detach().clone() for name, weight in self._learning.items()}

    def update(self, step: int) -> None:
        """Move towards the weights after `step`."""
        if self._decay is not None:
            move_towards(self._learning.values(), self.weights.values(), self._decay, step)

    @contextmanager
    def applied(self) -> Iterator[None]:
        """The model has the averages within, and afterwards its own weights again."""
        own = {name: weight.detach().clone() for name, weight in self._learning.items()}
        self._set(self._learning, self.weights)
        try:
            yield
        finally:
            self._set(self._learning, own)

    def load(self, weights: Mapping[str, Tensor]) -> None:
        """Go on from complete tensors, the same on every worker."""
        self._set(self.weights, {name: cut(weights[name], self.weights[name]) for name in weights})

    @staticmethod
    @torch.no_grad()
    def _set(targets: Mapping[str, Tensor], values: Mapping[str, Tensor]) -> None:
        for name, value in values.items():
            targets[name].copy_(value)


@torch.no_grad()
def move_towards(
    weights: Iterable[Tensor], averages: Iterable[Tensor], decay: float, step: int
) -> None:
    """Average <- d * average + (1 - d) * weight with d = min(decay, (1 + t) / (10 + t)) after step t.

    Steps count from 0. So the random weights of the start are soon forgotten (as TensorFlow's
    ExponentialMovingAverage does).
    """
    d = min(decay, (1 + step) / (10 + step))
    torch._foreach_lerp_(list(averages), list(weights), 1 - d)
