"""Which row of an embedding each frame chooses, with nothing frames x units kept for the gradient.

The plain formula, y = softmax((logits + noise) / tau) and the rows it chooses, keeps several N x K
matrices for the backward pass: gigabytes at N = 48,000 frames and K = 2,000 units. Here the forward
pass keeps only the chosen unit of each frame; the backward pass computes logits, noise and
probabilities again, a tile of frames at a time: in torch's operations (`tiled`), or on a GPU in
kernels of our own (`fused`).

Shapes: M frames with padding, N valid ones, D dimensions, K units, E embedding.
"""

from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from pipeline.clustering.logits import Logits
from pipeline.clustering.tiles import is_fused, kernels_on
from pipeline.quantizer import tiled
from pipeline.quantizer.relaxation import Gradients, Relaxation


class Choice(NamedTuple):
    """The outcome of `choose`; all but `embedded_ME` without gradients.

    Attributes:
        embedded_ME: float32; zeros on frames that do not count.
        units_N: int64, the unit of each valid frame.
        nearest_N: int64, its nearest centroid; ties go to the lowest index.
        entropy_N: of p, in nats.
    """

    embedded_ME: Tensor
    units_N: Tensor
    nearest_N: Tensor
    entropy_N: Tensor


def choose(
    frames_MD: Tensor,
    valid_N: Tensor,
    logits: Logits,
    embedding_KE: Tensor,
    relaxation: Relaxation | None,
) -> Choice:
    """Embed the frames `valid_N` by the unit that each chooses.

    Gradients (of first order) for frames, logits and embedding are those of autograd through the
    plain formula with the same noise, the noise being a constant. All of it is float32, under
    autocast too.

    Args:
        frames_MD: of any floating dtype; only the valid ones are read.
        valid_N: int64, which frames count.
        logits: of the units.
        embedding_KE: one float32 row for each unit.
        relaxation: None takes the nearest centroid, and only the embedding gets a gradient.
    """
    parts: list[Tensor | None] = [logits.weight_KD, logits.bias_K, logits.sharpness]
    if relaxation is None:
        frames_MD = frames_MD.detach()
        parts = [part if part is None else part.detach() for part in parts]
    with torch.autocast(frames_MD.device.type, enabled=False):
        chosen = _Choose.apply(  # type: ignore[no-untyped-call] # untyped in torch
            frames_MD, valid_N, logits.origin_D, *parts, embedding_KE, relaxation
        )
        return Choice(*chosen)


class _Choose(torch.autograd.Function):
    """Forward keeps its inputs and the units; backward recomputes the rest tile by tile."""

    @staticmethod
    def forward(  # noqa: PLR0917 (torch passes them so)
        ctx: Any,
        frames_MD: Tensor,
        valid_N: Tensor,
        origin_D: Tensor,
        weight_KD: Tensor,
        bias_K: Tensor,
        sharpness: Tensor | None,
        embedding_KE: Tensor,
        relaxation: Relaxation | None,
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        logits = Logits(weight_KD, bias_K, origin_D, sharpness)
        ctx.is_fused = is_fused(frames_MD, len(weight_KD))
        if ctx.is_fused:
            from pipeline.quantizer import fused

            top_N = frames_MD.new_empty(0)
            with kernels_on(frames_MD):
                embedded_ME, units_N, nearest_N, entropy_N = fused.forward(
                    frames_MD, valid_N, logits, embedding_KE, relaxation
                )
        else:
            embedded_ME, units_N, nearest_N, entropy_N, top_N = tiled.forward(
                frames_MD, valid_N, logits, embedding_KE, relaxation
            )
        ctx.save_for_backward(
            frames_MD, valid_N, origin_D, weight_KD, bias_K, sharpness, embedding_KE, units_N, top_N
        )
        ctx.relaxation = relaxation
        ctx.mark_non_differentiable(units_N, nearest_N, entropy_N)
        return embedded_ME, units_N, nearest_N, entropy_N

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, upstream_ME: Tensor, *_: Tensor) -> tuple[Tensor | None, ...]:
        # Checkpointing lets saved tensors be read once.
        frames_MD, valid_N, *parts, embedding_KE, units_N, top_N = ctx.saved_tensors
        origin_D, weight_KD, bias_K, sharpness = parts
        logits = Logits(weight_KD, bias_K, origin_D, sharpness)
        relaxation: Relaxation | None = ctx.relaxation
        grads = Gradients.zeros(ctx.needs_input_grad, frames_MD, logits, embedding_KE)
        if relaxation is None or (relaxation.hard and not grads.wants_logits):
            grads.add_chosen(upstream_ME, valid_N, units_N)
            return grads.of_inputs()
        # If backward() is called under autocast, some of this would be in bfloat16.
        with torch.autocast(frames_MD.device.type, enabled=False):
            if ctx.is_fused:
                from pipeline.quantizer import fused

                fused.backward(
                    frames_MD, valid_N, logits, embedding_KE, relaxation, upstream_ME, grads
                )
            else:
                tiled.backward(
                    frames_MD, valid_N, logits, embedding_KE, relaxation, upstream_ME, top_N, grads
                )
        if relaxation.hard:
            grads.add_chosen(upstream_ME, valid_N, units_N)
        return grads.of_inputs()
