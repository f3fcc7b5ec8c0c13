"""The relaxation's forward and backward pass on a GPU, a tile of rows at a time.

Each row of logits is read once: the forward kernel finds the nearest unit, the sampled one and the
entropy; the backward kernel makes the noise and y again and leaves the gradient of the logits in the
tile's own memory, split for the two products that follow. Noise is counter-based: Philox 4x32-10
(Salmon et al., 2011) of the step's seed, the utterance's key, the frame's index in the utterance
and the unit, so that it belongs to the utterance in whatever batch.

This module needs Triton, so it is imported where a tensor is on a GPU.

Shapes: N valid frames, R of them in a tile, D dimensions, K units, E embedding.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from pipeline.clustering.fused import (
    LEFT,
    RIGHT,
    TILE_ROWS,
    LogitTiles,
    block_of,
    largest_of,
    product,
    scale_of,
    split,
)
from pipeline.clustering.logits import Logits
from pipeline.quantizer.fused_gradients import (
    BACKWARD_ROWS,
    TileGradients,
    add_sum_over_rows,
    scatter,
    split_part,
    stacked,
)
from pipeline.quantizer.kernels import UNIT_SCALE, choose_rows
from pipeline.quantizer.noise import Counters
from pipeline.quantizer.relaxation import Gradients, Relaxation


def forward(
    frames_MD: Tensor,
    valid_N: Tensor,
    logits: Logits,
    embedding_KE: Tensor,
    relaxation: Relaxation | None,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """embedded_ME, units_N, nearest_N and entropy_N, as `choice.choose` has them."""
    embedded_ME = embedding_KE.new_zeros((len(frames_MD), embedding_KE.shape[1]))
    units_N, nearest_N = torch.empty_like(valid_N), torch.empty_like(valid_N)
    entropy_N = embedding_KE.new_empty(len(valid_N))
    counters = Counters.of(relaxation.noise if relaxation else None, frames_MD.device)
    soft = relaxation is not None and not relaxation.hard
    tau = relaxation.tau if relaxation is not None else 1.0
    embedding_KE = embedding_KE.contiguous()
    embedding_scale = scale_of(largest_of(embedding_KE))
    stacked_JE = stacked(embedding_KE, embedding_scale) if soft else None
    unscale_embedded = 1 / (embedding_scale * UNIT_SCALE.value)
    num_units, width = embedding_KE.shape
    tiles = LogitTiles(frames_MD, valid_N, logits, TILE_ROWS, 1 + soft)
    for span, tile_RPK, _ in tiles:
        choose_rows[(len(tile_RPK),)](
            tile_RPK,
            tile_RPK.view(torch.float16),
            tiles.factor,
            tiles.bias_K,
            counters.key_N[span],
            counters.index_N[span],
            counters.seed,
            units_N[span],
            nearest_N[span],
            entropy_N[span],
            valid_N[span],
            embedding_KE,
            embedded_ME,
            tau,
            num_units,
            width,
            tile_RPK.stride(0),
            NOISE=counters.draws,
            SOFT=soft,
            BLOCK_K=block_of(num_units),
            BLOCK_E=block_of(width),
            num_warps=8,
        )
        if stacked_JE is not None:
            embedded_RE = embedding_KE.new_empty((len(tile_RPK), width))
            product(split_part(tile_RPK), stacked_JE, embedded_RE)
            scatter(embedded_RE, valid_N[span], unscale_embedded, embedded_ME)
    return embedded_ME, units_N, nearest_N, entropy_N


def backward(  # noqa: PLR0917 - what the autograd function has
    frames_MD: Tensor,
    valid_N: Tensor,
    logits: Logits,
    embedding_KE: Tensor,
    relaxation: Relaxation,
    upstream_ME: Tensor,
    targets: Gradients,
) -> None:
    """With u = upstream, h = u E^T: d logits = y (h - sum_k y_k h_k) / tau, and so on down."""
    counters = Counters.of(relaxation.noise, frames_MD.device)
    num_units, embedding_dim = embedding_KE.shape
    embedding_KE, upstream_ME = embedding_KE.contiguous(), upstream_ME.contiguous()
    scales = _Scales.of(embedding_KE, upstream_ME, valid_N)
    embedding_K3E = split(embedding_KE, RIGHT, scales.embedding)
    unscale_h = 1 / (scales.embedding * scales.upstream)
    tiles = LogitTiles(frames_MD, valid_N, logits, BACKWARD_ROWS, 2)
    bound = 2 / relaxation.tau * scales.largest_h
    gradients = TileGradients(tiles, bound, targets.logits, targets.frames_MD)
    upstream_R3E = embedding_KE.new_empty((tiles.num_rows, 3, embedding_dim), dtype=torch.float16)
    y_R3K = None
    if not relaxation.hard:
        y_R3K = embedding_KE.new_empty((tiles.num_rows, 3, num_units), dtype=torch.float16)
    for span, tile_RPK, frames_R3D in tiles:
        u_R3E = split(
            upstream_ME, LEFT, scales.upstream, chosen_R=valid_N[span], out_R3D=upstream_R3E
        )
        product(u_R3E.flatten(1), embedding_K3E.flatten(1).T, tile_RPK[:, 1])
        gradients.write(span, tile_RPK, unscale_h, counters, tau=relaxation.tau, y_R3K=y_R3K)
        if y_R3K is not None:
            add_sum_over_rows(targets.embedding_KE, y_R3K[: len(tile_RPK)], u_R3E)
        gradients.add(span, tile_RPK, frames_R3D)
    gradients.finish()
    if y_R3K is not None:
        targets.embedding_KE.div_(scales.upstream * UNIT_SCALE.value)


@dataclass(frozen=True)
class _Scales:
    """Scalar tensors: what the parts of each matrix are multiplied by.

    Attributes:
        largest_h: no product of a row of each is larger.
    """

    embedding: Tensor
    upstream: Tensor
    largest_h: Tensor

    @classmethod
    def of(cls, embedding_KE: Tensor, upstream_ME: Tensor, valid_N: Tensor) -> "_Scales":
        norms_M = torch.linalg.vector_norm(upstream_ME, dim=1)
        largest_norm = norms_M.index_select(0, valid_N).amax() if len(valid_N) else norms_M.sum()
        return cls(
            scale_of(largest_of(embedding_KE)),
            scale_of(largest_of(upstream_ME, valid_N)),
            largest_norm * torch.linalg.vector_norm(embedding_KE, dim=1).amax(),
        )
