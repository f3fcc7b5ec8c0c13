"""The relaxation's forward and backward pass in torch's own operations, a tile of rows at a time.

Shapes: M frames with padding, N valid ones, R of them in a tile, D dimensions, K units, E embedding.
"""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from pipeline.clustering.frame_tiles import FrameTile, frame_tiles
from pipeline.clustering.logits import Logits
from pipeline.clustering.tiles import tile_rows
from pipeline.quantizer.noise import Noise, Stretch, gumbel_noise
from pipeline.quantizer.relaxation import Gradients, Relaxation


def forward(
    frames_MD: Tensor,
    valid_N: Tensor,
    logits: Logits,
    embedding_KE: Tensor,
    relaxation: Relaxation | None,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """embedded_ME, units_N, nearest_N and entropy_N of a `Choice`, and each frame's largest logit."""
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


def backward(  # noqa: PLR0917 - what the autograd function has
    frames_MD: Tensor,
    valid_N: Tensor,
    logits: Logits,
    embedding_KE: Tensor,
    relaxation: Relaxation,
    upstream_ME: Tensor,
    top_N: Tensor,
    gradients: Gradients,
) -> None:
    """Add the gradients of all frames to `gradients`; `top_N` is the forward pass's."""
    embedding_dim = embedding_KE.shape[1]
    for tile, stretches in _noisy_tiles(
        frames_MD, valid_N, logits, embedding_dim, relaxation.noise
    ):
        tile.logits_RK.sub_(top_N[tile.span, None])
        _add_noise(tile, stretches)
        upstream_RE = upstream_ME.index_select(0, tile.rows_R)
        _add_gradients(gradients, tile, relaxation, upstream_RE, logits, embedding_KE)


def _add_gradients(  # noqa: PLR0917 - what one tile needs
    gradients: Gradients,
    tile: FrameTile,
    relaxation: Relaxation,
    upstream_RE: Tensor,
    logits: Logits,
    embedding_KE: Tensor,
) -> None:
    """With u = upstream, h = u E^T: d logits = y (h - sum_k y_k h_k) / tau; the rest follows.

    Overwrites the tile and `upstream_RE`.
    """
    y_RK = _softmax(tile, relaxation)
    if not relaxation.hard:
        gradients.embedding_KE.addmm_(y_RK.T, upstream_RE)
    # The logits are no longer needed: h overwrites them, then y h, then the gradient.
    h_RK = torch.mm(upstream_RE.div_(relaxation.tau), embedding_KE.T, out=tile.logits_RK)
    weighted_RK = h_RK.mul_(y_RK)
    mean_R = weighted_RK.sum(dim=1)
    gradient_RK = weighted_RK.addcmul_(y_RK, mean_R[:, None], value=-1)
    gradients.logits.add(logits, tile, gradient_RK, to_frames=gradients.frames_MD is not None)
    if gradients.frames_MD is not None:
        gradients.frames_MD.index_copy_(
            0, tile.rows_R, tile.frames_RD.to(gradients.frames_MD.dtype)
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
