"""y = softmax((logits + noise) / tau) and the rows it chooses, with nothing frames x units kept.

The plain formula keeps several N x K matrices for the backward pass: gigabytes at N = 48,000 frames
and K = 2,000 units. Here the forward pass keeps only the chosen unit of each frame; the backward
pass computes logits, noise and probabilities again, a tile of frames at a time.

Shapes: M frames with padding, N valid ones, D dimensions, K units, E embedding.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from pipeline.clustering.logits import Logits
from pipeline.clustering.tiles import FrameTile, frame_tiles, is_fused, tile_rows, tiles
from pipeline.quantizer.noise import Noise, Stretch, gumbel_noise


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
    weight_KD, bias_K = logits.weight_KD, logits.bias_K
    if relaxation is None:
        frames_MD, weight_KD, bias_K = frames_MD.detach(), weight_KD.detach(), bias_K.detach()
    parts = (logits.origin_D, weight_KD, bias_K, embedding_KE)
    with torch.autocast(frames_MD.device.type, enabled=False):
        chosen = _Choose.apply(frames_MD, valid_N, *parts, relaxation)  # type: ignore[no-untyped-call] # untyped in torch
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
        embedding_KE: Tensor,
        relaxation: Relaxation | None,
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        logits = Logits(weight_KD, bias_K, origin_D)
        if is_fused(frames_MD, len(weight_KD)):
            from pipeline.quantizer import fused

            top_N = frames_MD.new_empty(0)
            embedded_ME, units_N, nearest_N, entropy_N = fused.forward(
                frames_MD, valid_N, logits, embedding_KE, relaxation
            )
        else:
            embedded_ME, units_N, nearest_N, entropy_N, top_N = _tiled_forward(
                frames_MD, valid_N, logits, embedding_KE, relaxation
            )
        ctx.save_for_backward(
            frames_MD, valid_N, origin_D, weight_KD, bias_K, embedding_KE, units_N, top_N
        )
        ctx.relaxation = relaxation
        ctx.mark_non_differentiable(units_N, nearest_N, entropy_N)
        return embedded_ME, units_N, nearest_N, entropy_N

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, upstream_ME: Tensor, *_: Tensor) -> tuple[Tensor | None, ...]:
        (frames_MD, valid_N, origin_D, weight_KD, bias_K, embedding_KE, units_N, top_N) = (
            ctx.saved_tensors
        )
        logits = Logits(weight_KD, bias_K, origin_D)
        relaxation: Relaxation | None = ctx.relaxation
        grads = Gradients.zeros(ctx.needs_input_grad, frames_MD, logits, embedding_KE)
        if relaxation is None or (relaxation.hard and not grads.wants_logits):
            grads.add_chosen(upstream_ME, valid_N, units_N)
            return grads.of_inputs()
        # If backward() is called under autocast, some of this would be in bfloat16.
        with torch.autocast(frames_MD.device.type, enabled=False):
            if is_fused(frames_MD, len(weight_KD)):
                from pipeline.quantizer import fused

                fused.backward(
                    frames_MD, valid_N, logits, embedding_KE, relaxation, upstream_ME, grads
                )
            else:
                for tile, stretches in _noisy_tiles(
                    frames_MD, valid_N, logits, embedding_KE.shape[1], relaxation.noise
                ):
                    tile.logits_RK.sub_(top_N[tile.span, None])
                    _add_noise(tile, stretches)
                    upstream_RE = upstream_ME.index_select(0, tile.rows_R)
                    grads.add_relaxed(tile, relaxation, upstream_RE, weight_KD, embedding_KE)
        if relaxation.hard:
            grads.add_chosen(upstream_ME, valid_N, units_N)
        return grads.of_inputs()


def _tiled_forward(
    frames_MD: Tensor,
    valid_N: Tensor,
    logits: Logits,
    embedding_KE: Tensor,
    relaxation: Relaxation | None,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """The values of a `Choice`, and each frame's largest logit."""
    embedding_dim = embedding_KE.shape[1]
    embedded_ME = embedding_KE.new_zeros((len(frames_MD), embedding_dim))
    units_N, nearest_N = torch.empty_like(valid_N), torch.empty_like(valid_N)
    top_N, entropy_N = (embedding_KE.new_empty(len(valid_N)) for _ in range(2))
    noise = None if relaxation is None else relaxation.noise
    for tile, stretches in _noisy_tiles(frames_MD, valid_N, logits, embedding_dim, noise):
        torch.max(tile.logits_RK, dim=1, out=(top_N[tile.span], nearest_N[tile.span]))
        tile.logits_RK.sub_(top_N[tile.span, None])
        entropy_N[tile.span] = _entropy(tile.logits_RK, tile.spare_RK)
        units_N[tile.span] = nearest_N[tile.span]
        if noise is not None:
            _add_noise(tile, stretches)
            torch.argmax(tile.logits_RK, dim=1, out=units_N[tile.span])
        if relaxation is None or relaxation.hard:
            embedded_RE = embedding_KE.index_select(0, units_N[tile.span])
        else:
            embedded_RE = _softmax(tile, relaxation) @ embedding_KE
        embedded_ME.index_copy_(0, tile.rows_R, embedded_RE)
    return embedded_ME, units_N, nearest_N, entropy_N, top_N


@dataclass(frozen=True)
class Gradients:
    """Gradients of the inputs, summed up tile by tile; None for inputs that need none."""

    frames_MD: Tensor | None
    weight_KD: Tensor | None
    bias_K: Tensor | None
    embedding_KE: Tensor

    @classmethod
    def zeros(
        cls, wanted: tuple[bool, ...], frames_MD: Tensor, logits: Logits, embedding_KE: Tensor
    ) -> "Gradients":
        """`wanted` is in the order of `_Choose`'s inputs: frames, valid, origin, weight, bias."""
        return cls(
            torch.zeros_like(frames_MD) if wanted[0] else None,
            torch.zeros_like(logits.weight_KD) if wanted[3] else None,
            torch.zeros_like(logits.bias_K) if wanted[4] else None,
            torch.zeros_like(embedding_KE),
        )

    @property
    def wants_logits(self) -> bool:
        return self.frames_MD is not None or self.weight_KD is not None

    def add_relaxed(
        self,
        tile: FrameTile,
        relaxation: Relaxation,
        upstream_RE: Tensor,
        weight_KD: Tensor,
        embedding_KE: Tensor,
    ) -> None:
        """With u = upstream, h = u E^T: d logits = y (h - sum_k y_k h_k) / tau; the rest follows.

        Overwrites the tile and `upstream_RE`.
        """
        y_RK = _softmax(tile, relaxation)
        if not relaxation.hard:
            self.embedding_KE.addmm_(y_RK.T, upstream_RE)
        # The logits are no longer needed: h overwrites them, then y h, then the gradient.
        h_RK = torch.mm(upstream_RE.div_(relaxation.tau), embedding_KE.T, out=tile.logits_RK)
        weighted_RK = h_RK.mul_(y_RK)
        mean_R = weighted_RK.sum(dim=1)
        gradient_RK = weighted_RK.addcmul_(y_RK, mean_R[:, None], value=-1)
        if self.weight_KD is not None and self.bias_K is not None:
            self.weight_KD.addmm_(gradient_RK.T, tile.frames_RD)
            self.bias_K.add_(gradient_RK.sum(dim=0))
        if self.frames_MD is not None:
            torch.mm(gradient_RK, weight_KD, out=tile.frames_RD)
            self.frames_MD.index_copy_(0, tile.rows_R, tile.frames_RD.to(self.frames_MD.dtype))

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
            self.weight_KD,
            self.bias_K,
            self.embedding_KE,
            None,
        )


def _entropy(shifted_RK: Tensor, spare_RK: Tensor) -> Tensor:
    """Of softmax(shifted), the largest of each row being 0: log sum w - sum w shifted / sum w."""
    weights_RK = torch.exp(shifted_RK, out=spare_RK)
    sums_R = weights_RK.sum(dim=1)
    return sums_R.log() - weights_RK.mul_(shifted_RK).sum(dim=1) / sums_R


def _noisy_tiles(
    frames_MD: Tensor, valid_N: Tensor, logits: Logits, embedding_dim: int, noise: Noise | None
) -> Iterator[tuple[FrameTile, Sequence[Stretch]]]:
    """Each tile with the stretches of noise that together fill it: no tile splits one."""
    if noise is None:
        for tile in frame_tiles(frames_MD, valid_N, logits, embedding_dim):
            yield tile, ()
        return
    widest = max(*logits.weight_KD.shape, embedding_dim)
    groups = list(noise.tiles(tile_rows(widest, frames_MD.device)))
    spans = [slice(group[0].span.start, group[-1].span.stop) for group in groups]
    yield from zip(
        frame_tiles(frames_MD, valid_N, logits, embedding_dim, spans), groups, strict=True
    )


def _add_noise(tile: FrameTile, stretches: Sequence[Stretch]) -> None:
    if stretches:
        tile.logits_RK.add_(gumbel_noise(stretches, tile.spare_RK))


def _softmax(tile: FrameTile, relaxation: Relaxation) -> Tensor:
    """Return y = softmax(logits / tau) in the tile's spare matrix; overwrites its logits."""
    return torch.softmax(tile.logits_RK.div_(relaxation.tau), dim=1, out=tile.spare_RK)
