"""What training lowers: a weighted sum of the ASR losses and the quantizer's own."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import torch
from torch import Tensor

from pipeline.config import Config
from pipeline.training.inputs import Example
from pipeline.training.worker import Worker

LOSSES = ("ctc", "attention", "kmeans")


def divisors_of(examples: Sequence[Example], frames_per_second: float) -> dict[str, float]:
    """What each summed loss is divided by: pieces of text (with the end), or nominal frames.

    They depend on all utterances of a step, whichever worker has them, so nobody need ask.
    """
    seconds = sum(example.utterance.duration for example in examples)
    pieces = float(sum(len(example.target) + 1 for example in examples))
    frames = max(1.0, seconds * frames_per_second)
    return {"ctc": pieces, "attention": pieces, "kmeans": frames}


@dataclass(frozen=True)
class Objective:
    """ctc_weight * ctc + (1 - ctc_weight) * attention + kmeans_weight * kmeans."""

    ctc_weight: float
    kmeans_weight: float

    @classmethod
    def of(cls, config: Config) -> Self:
        return cls(config.asr.ctc_weight, config.quantizer.kmeans_loss_weight)

    def loss(self, sums: Mapping[str, Tensor], divisors: Mapping[str, float]) -> Tensor:
        """This worker's part of the objective, from the sums that its forward pass made."""
        loss: Tensor = self._weighted({n: sums[n] / divisors[n] for n in LOSSES if n in sums})
        return loss

    def parts(self, sums: Mapping[str, Tensor], divisors: Mapping[str, float]) -> Tensor:
        """This worker's part of each loss, detached, float64, in the order of `LOSSES`."""
        absent = sums["ctc"].new_zeros(())
        return torch.stack(
            [sums.get(name, absent).detach().double() / divisors[name] for name in LOSSES]
        )

    def report(self, parts: Tensor, worker: Worker) -> dict[str, float]:
        """Each loss over all workers; "loss" is the objective, "asr_loss" its part by the ASR."""
        losses = dict(zip(LOSSES, worker.sum(parts).tolist(), strict=True))
        return {"loss": self._weighted(losses), "asr_loss": self._asr(losses), **losses}

    def _weighted(self, losses: Mapping[str, Any]) -> Any:
        return self._asr(losses) + self.kmeans_weight * losses.get("kmeans", 0.0)

    def _asr(self, losses: Mapping[str, Any]) -> Any:
        return self.ctc_weight * losses["ctc"] + (1 - self.ctc_weight) * losses["attention"]
