"""The relaxation's forward and backward pass on a GPU, a tile of rows at a time.

Each row of logits is read once: the forward kernel finds the nearest unit, the sampled one and the
entropy; the backward kernel makes the noise and y again and leaves the gradient of the logits in the
tile's own memory, split for the two products that follow. Noise is counter-based: Philox 4x32-10
(Salmon et al., 2011) of the step's seed, the utterance's key, the frame's index in the utterance
and the unit, so that it belongs to the utterance in whatever batch.

The kernels know squared distances alone; `choice` sends Euclidean ones to `tiled`, on a GPU too.

This module needs Triton, so it is imported where a tensor is on a GPU.

Shapes: N valid frames, R of them in a tile, D dimensions, K units, E embedding.
"""

from dataclasses import dataclass

import torch
import triton
from torch import Tensor

from pipeline.clustering.fused import (
    LEFT,
    RIGHT,
    TILE_ROWS,
    LogitTiles,
    largest_of,
    product,
    scale_of,
    split,
)
from pipeline.clustering.logits import Logits
from pipeline.quantizer.kernels import Y_SCALE, choose_rows, gradient_rows, scatter_rows
from pipeline.quantizer.noise import Noise
from pipeline.quantizer.relaxation import Gradients, Relaxation

# The backward pass holds two matrices of a tile, and split copies of what it multiplies.
BACKWARD_ROWS = 4096
# Rows whose gradients of the bias one program sums up.
_ROWS_OF_A_SUM = 16


@dataclass(frozen=True)
class Counters:
    """Where each valid frame's noise is drawn: key_N and index_N, int32; no noise if empty."""

    seed: int
    key_N: Tensor
    index_N: Tensor

    @classmethod
    def of(cls, noise: Noise | None, device: torch.device) -> "Counters":
        if noise is None:
            nothing = torch.empty(0, dtype=torch.int32, device=device)
            return cls(0, nothing, nothing)
        lengths_B = torch.tensor(noise.lengths, device=device)
        total = sum(noise.lengths)
        repeat = torch.repeat_interleave
        keys_B = torch.tensor(noise.keys, dtype=torch.int32, device=device)
        starts_B = (lengths_B.cumsum(0) - lengths_B).to(torch.int32)
        index_N = torch.arange(total, dtype=torch.int32, device=device)
        index_N -= repeat(starts_B, lengths_B, output_size=total)
        return cls(noise.seed, repeat(keys_B, lengths_B, output_size=total), index_N)

    @property
    def draws(self) -> bool:
        return len(self.key_N) > 0


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
    stacked_JE = _stacked(embedding_KE, embedding_scale) if soft else None
    unscale_embedded = 1 / (embedding_scale * Y_SCALE.value)
    num_units, width = embedding_KE.shape
    tiles = LogitTiles(frames_MD, valid_N, logits, TILE_ROWS, 1 + soft)
    for span, tile_RPK, _ in tiles:
        choose_rows[(len(tile_RPK),)](
            tile_RPK,
            tile_RPK.view(torch.float16),
            tiles.unscale,
            logits.bias_K,
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
            BLOCK_K=triton.next_power_of_2(num_units),
            BLOCK_E=triton.next_power_of_2(width),
            num_warps=8,
        )
        if stacked_JE is not None:
            embedded_RE = embedding_KE.new_empty((len(tile_RPK), width))
            product(_split_part(tile_RPK), stacked_JE, embedded_RE)
            _scatter(embedded_RE, valid_N[span], unscale_embedded, embedded_ME)
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
    scales = _Scales.of(logits, embedding_KE, upstream_ME, valid_N, relaxation.tau)
    embedding_K3E = split(embedding_KE, RIGHT, scales.embedding)
    stacked_JD = _stacked(logits.weight_KD, scales.weight)
    unscale_frames = 1 / (scales.gradient * scales.weight)
    unscale_h = 1 / (scales.embedding * scales.upstream)
    tiles = LogitTiles(frames_MD, valid_N, logits, BACKWARD_ROWS, 2)
    upstream_R3E = embedding_KE.new_empty((tiles.num_rows, 3, embedding_dim), dtype=torch.float16)
    y_R3K = None
    if not relaxation.hard:
        y_R3K = embedding_KE.new_empty((tiles.num_rows, 3, num_units), dtype=torch.float16)
    num_sums = triton.cdiv(tiles.num_rows, _ROWS_OF_A_SUM)
    sums_SK = embedding_KE.new_empty((num_sums, num_units))
    for span, tile_RPK, frames_R3D in tiles:
        count = len(tile_RPK)
        u_R3E = split(
            upstream_ME, LEFT, scales.upstream, chosen_R=valid_N[span], out_R3D=upstream_R3E
        )
        product(u_R3E.flatten(1), embedding_K3E.flatten(1).T, tile_RPK[:, 1])
        programs = triton.cdiv(count, _ROWS_OF_A_SUM)
        gradient_rows[(programs,)](
            tile_RPK,
            tile_RPK.view(torch.float16),
            tile_RPK if y_R3K is None else y_R3K,
            tiles.unscale,
            unscale_h,
            scales.gradient,
            logits.bias_K,
            counters.key_N[span],
            counters.index_N[span],
            counters.seed,
            sums_SK,
            1.0 / relaxation.tau,
            count,
            num_units,
            tile_RPK.stride(0),
            NOISE=counters.draws,
            SOFT=y_R3K is not None,
            ROWS=_ROWS_OF_A_SUM,
            BLOCK_K=triton.next_power_of_2(num_units),
            num_warps=8,
        )
        gradient_RJ = _split_part(tile_RPK)
        if targets.logits.weight_KD is not None and targets.logits.bias_K is not None:
            gradient_R3K = gradient_RJ.unflatten(1, (3, num_units))
            _add_sum_over_rows(targets.logits.weight_KD, gradient_R3K, frames_R3D)
            targets.logits.bias_K.add_(sums_SK[:programs].sum(dim=0))
        if y_R3K is not None:
            _add_sum_over_rows(targets.embedding_KE, y_R3K[:count], u_R3E)
        if targets.frames_MD is not None:
            # What the products above have read makes room for the gradient of the frames.
            of_frames_RD = _reused(frames_R3D, (count, frames_MD.shape[1]))
            product(gradient_RJ, stacked_JD, of_frames_RD)
            _scatter(of_frames_RD, valid_N[span], unscale_frames, targets.frames_MD)
    if targets.logits.weight_KD is not None:
        targets.logits.weight_KD.div_(scales.gradient * tiles.scale)
    if y_R3K is not None:
        targets.embedding_KE.div_(scales.upstream * Y_SCALE.value)


@dataclass(frozen=True)
class _Scales:
    """Scalar tensors: what the parts of each matrix are multiplied by."""

    weight: Tensor
    embedding: Tensor
    upstream: Tensor
    gradient: Tensor

    @classmethod
    def of(
        cls,
        logits: Logits,
        embedding_KE: Tensor,
        upstream_ME: Tensor,
        valid_N: Tensor,
        tau: float,
    ) -> "_Scales":
        """The gradient of the logits is at most 2 |u| |E_k| / tau."""
        norms_M = torch.linalg.vector_norm(upstream_ME, dim=1)
        largest_norm = norms_M.index_select(0, valid_N).amax() if len(valid_N) else norms_M.sum()
        bound = 2 / tau * largest_norm * torch.linalg.vector_norm(embedding_KE, dim=1).amax()
        return cls(
            scale_of(largest_of(logits.weight_KD)),
            scale_of(largest_of(embedding_KE)),
            scale_of(largest_of(upstream_ME, valid_N)),
            scale_of(bound),
        )


def _stacked(rows_KD: Tensor, scale: Tensor) -> Tensor:
    """[hi; lo; hi] of all rows, 3K x D: what a split row [hi | hi | lo] of K is multiplied with."""
    return split(rows_KD.contiguous(), LEFT, scale).transpose(0, 1).flatten(0, 1).contiguous()


def _split_part(tile_RPK: Tensor) -> Tensor:
    """The first 3 K float16 numbers of each row, R x 3K."""
    num_units = tile_RPK.shape[2]
    return tile_RPK.view(torch.float16).flatten(1)[:, : 3 * num_units]


def _add_sum_over_rows(target_KD: Tensor, left_R3K: Tensor, right_R3D: Tensor) -> None:
    """Target += left^T right of rows split as (hi, hi, lo) and (hi, lo, hi)."""
    for part in range(3):
        product(left_R3K[:, part].T, right_R3D[:, part], target_KD, adds=True)


def _scatter(rows_RD: Tensor, chosen_R: Tensor, unscale: Tensor, out_MD: Tensor) -> None:
    """out[chosen] = rows * unscale."""
    num_rows, dim = rows_RD.shape
    block = triton.next_power_of_2(dim)
    scatter_rows[(num_rows,)](rows_RD, chosen_R, unscale, out_MD, dim, BLOCK=block)


def _reused(memory: Tensor, shape: tuple[int, int]) -> Tensor:
    """A float32 matrix in the memory of a contiguous float16 tensor that is read no more."""
    return memory.flatten()[: 2 * shape[0] * shape[1]].view(torch.float32).view(shape)
