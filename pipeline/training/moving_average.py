"""An exponential moving average of a model's weights over the steps (EMA)."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from pipeline.training.sharding import cut


class MovingAverage:
    """average <- d * average + (1 - d) * weights, of whatever of `model` requires a gradient now.

    After step t (from 0), d = min(decay, (1 + t) / (10 + t)), so that the random weights of the
    start are soon forgotten (as TensorFlow's ExponentialMovingAverage does). The weights themselves
    train on as if there were none. Without a `decay` nothing is averaged or held.
    """

    def __init__(self, model: nn.Module, decay: float | None) -> None:
        self._decay = decay
        learning = [(n, p) for n, p in model.named_parameters() if p.requires_grad]
        self._learning = dict(learning if decay is not None else [])
        self.weights = {name: weight.detach().clone() for name, weight in self._learning.items()}

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Move towards the weights after `step`."""
        if self._decay is None:
            return
        decay = min(self._decay, (1 + step) / (10 + step))
        averages: list[Tensor] = list(self.weights.values())
        weights: list[Tensor] = list(self._learning.values())
        torch._foreach_lerp_(averages, weights, 1 - decay)

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
