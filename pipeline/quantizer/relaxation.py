"""How logits become the weights of embedding rows, and where the gradients of that are added up.

Shapes: M frames with padding, N valid ones, D dimensions, K units, E embedding.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from pipeline.clustering.logits import Logits
from pipeline.clustering.tiles import tiles
from pipeline.quantizer.logit_gradients import LogitGradients
from pipeline.quantizer.noise import Noise


@dataclass(frozen=True)
class Relaxation:
    """How a frame's logits become the weights of the embedding's rows.

    Attributes:
        tau: temperature of y = softmax((logits + noise) / tau).
        noise: determines the Gumbel noise; None for no noise.
        hard: the forward value is the row of argmax y and the gradient is y's (straight through);
            otherwise the value is y's too.
    """

    tau: float
    noise: Noise | None
    hard: bool


@dataclass(frozen=True)
class Gradients:
    """Gradients of the inputs, summed up tile by tile; None for inputs that need none."""

    frames_MD: Tensor | None
    logits: LogitGradients
    embedding_KE: Tensor

    @classmethod
    def zeros(
        cls, wanted: tuple[bool, ...], frames_MD: Tensor, logits: Logits, embedding_KE: Tensor
    ) -> "Gradients":
        """`wanted` is in the order of `choice._Choose`'s inputs: frames, valid, origin, logits."""
        return cls(
            # Rows one after another, whatever strides the frames have: kernels write them so.
            torch.zeros_like(frames_MD, memory_format=torch.contiguous_format)
            if wanted[0]
            else None,
            LogitGradients.zeros(logits, wanted[3:6]),
            torch.zeros_like(embedding_KE),
        )

    @property
    def wants_logits(self) -> bool:
        return self.frames_MD is not None or self.logits.are_wanted

    def add_chosen(self, upstream_ME: Tensor, valid_N: Tensor, units_N: Tensor) -> None:
        """Add the upstream gradient of each frame to the row that it chose."""
        for span in tiles(len(valid_N), upstream_ME.shape[1], upstream_ME.device):
            chosen = upstream_ME.index_select(0, valid_N[span])
            self.embedding_KE.index_add_(0, units_N[span], chosen)

    def of_inputs(self) -> tuple[Tensor | None, ...]:
        return (
            self.frames_MD,
            None,
            None,
            self.logits.weight_KD,
            self.logits.bias_K,
            self.logits.sharpness,
            self.embedding_KE,
            None,
        )
