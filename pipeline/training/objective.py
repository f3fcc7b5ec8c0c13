"""What training lowers: a weighted sum of the ASR losses and the quantizer's own."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import torch
from torch import Tensor

from pipeline.config import Config
from pipeline.training.inputs import Example
from pipeline.training.worker import Worker


def divisors_of(examples: Sequence[Example], frames_per_second: float) -> dict[str, float]:
    """What each summed loss is divided by: pieces of text (with the end), or nominal frames.

    They depend on all utterances of a step, whichever worker has them, so nobody need ask.
    """
    seconds = sum(example.utterance.duration for example in examples)
    pieces = float(sum(len(example.target) + 1 for example in examples))
    frames = max(1.0, seconds * frames_per_second)
    return {"ctc": pieces, "attention": pieces, "kmeans": frames, "resynthesis": frames}


@dataclass(frozen=True)
class Objective:
    """ctc_weight * ctc + (1 - ctc_weight) * attention + kmeans_weight * kmeans, and the resynthesis
    loss with its weight where that is not 0.
    """

    ctc_weight: float
    kmeans_weight: float
    resynthesis_weight: float = 0.0

    @classmethod
    def of(cls, config: Config) -> Self:
        return cls(
            config.asr.ctc_weight,
            config.quantizer.kmeans_loss_weight,
            config.resynthesis_loss.weight,
        )

    @property
    def names(self) -> tuple[str, ...]:
        """The losses that are reported."""
        names = ("ctc", "attention", "kmeans")
        return (*names, "resynthesis") if self.resynthesis_weight else names

    def loss(self, sums: Mapping[str, Tensor], divisors: Mapping[str, float]) -> Tensor:
        """This worker's part of the objective, from the sums that its forward pass made."""
        loss: Tensor = self._weighted({n: sums[n] / divisors[n] for n in self.names if n in sums})
        return loss

    def parts(self, sums: Mapping[str, Tensor], divisors: Mapping[str, float]) -> Tensor:
        """This worker's part of each loss, detached, float64, in the order of `names`."""
        absent = sums["ctc"].new_zeros(())
        return torch.stack(
            [sums.get(name, absent).detach().double() / divisors[name] for name in self.names]
        )

    def no_parts(self, device: torch.device) -> Tensor:
        """What `parts` are added to."""
        return torch.zeros(len(self.names), dtype=torch.float64, device=device)

    def report(self, parts: Tensor, worker: Worker) -> dict[str, float]:
        """Each loss over all workers; "loss" is the objective, "asr_loss" its part by the ASR."""
        losses = dict(zip(self.names, worker.sum(parts).tolist(), strict=True))
        return {"loss": self._weighted(losses), "asr_loss": self._asr(losses), **losses}

    def _weighted(self, losses: Mapping[str, Any]) -> Any:
        loss = self._asr(losses) + self.kmeans_weight * losses.get("kmeans", 0.0)
        if self.resynthesis_weight:
            loss = loss + self.resynthesis_weight * losses.get("resynthesis", 0.0)
        return loss

    def _asr(self, losses: Mapping[str, Any]) -> Any:
        return self.ctc_weight * losses["ctc"] + (1 - self.ctc_weight) * losses["attention"]
