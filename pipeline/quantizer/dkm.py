"""Differentiable k-means: a sampled hard assignment that passes gradients straight through.

Onda, Kashiwagi, Tsunoo, Futami, Watanabe: "Differentiable k-means for fully-optimized discrete
token-based ASR", Interspeech 2025; Gumbel-softmax: Jang, Gu, Poole, ICLR 2017.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from pipeline.quantizer.assignment import (
    closeness,
    entropy,
    log_probabilities,
    require_finite,
    require_shapes,
)


@dataclass(frozen=True)
class Quantized:
    """What the ASR model reads, and how the quantizer did.

    Attributes:
        embedded_BTE: the embedding row of each frame's unit; zero on padded frames.
        units_BT: the unit of each frame, int64; 0 on padded frames.
        losses: sums over the valid frames; divide by `stats["num_frames"]`.
        stats: detached; `num_frames` (valid ones), `entropy` (mean of p's, in nats), `agreement`
            (share of frames whose unit is the nearest centroid), `counts_K` (frames of each
            unit). The means are 0 where there is no valid frame.
    """

    embedded_BTE: Tensor
    units_BT: Tensor
    losses: dict[str, Tensor]
    stats: dict[str, Tensor]


class DifferentiableKMeans(nn.Module):
    """p(j | s) = softmax_j(-sigma^2 ||s - mu_j||^2), sampled in training, argmin in evaluation.

    Ordinary k-means is the case `sampled=False` with centroids that take no gradient. Which of
    `centroids_KD` and `log_sigma` learn is said by their `requires_grad`.

    Args:
        centroids_KD: where the centroids start, K units x D dimensions.
        sigma_squared: sigma^2 at the start.
        sigma_learned: whether log sigma takes a gradient.
        mean_squared_distance: of the frames to their nearest centroid after k-means; the unit of
            the k-means loss.
        sampled: whether training draws units from p; otherwise it takes the nearest, as
            evaluation always does.
    """

    mean_squared_distance: Tensor

    def __init__(
        self,
        centroids_KD: Tensor,
        sigma_squared: float,
        sigma_learned: bool,  # noqa: FBT001
        mean_squared_distance: float,
        *,
        sampled: bool = True,
    ) -> None:
        super().__init__()
        for name, value in (
            ("sigma_squared", sigma_squared),
            ("mean_squared_distance", mean_squared_distance),
        ):
            if not (value > 0 and math.isfinite(value)):
                raise ValueError(f"{name} must be positive and finite, got {value}")
        if centroids_KD.ndim != 2 or len(centroids_KD) == 0:
            raise ValueError(f"centroids must be units x dim, got {list(centroids_KD.shape)}")
        require_finite(centroids_KD)
        self.centroids_KD = nn.Parameter(centroids_KD.detach().clone().float())
        self.log_sigma = nn.Parameter(
            torch.tensor(math.log(sigma_squared) / 2), requires_grad=sigma_learned
        )
        self.register_buffer("mean_squared_distance", torch.tensor(mean_squared_distance))
        self.sampled = sampled

    @property
    def sigma_squared(self) -> Tensor:
        return (2 * self.log_sigma).exp()

    def forward(
        self, frames_BTD: Tensor, mask_BT: Tensor, embedding_KE: Tensor, tau: float, seed: int
    ) -> Quantized:
        """Quantize the frames where `mask_BT` is true and embed their units.

        Sampling: y = softmax((log p + g) / tau) with Gumbel noise g; the value embedded is the
        one-hot vector of argmax y, the gradient is y's. Hard: the nearest centroid, ties to the
        lowest index; only the embedding gets a gradient. All of it in float32 under autocast
        too. The embedding is an argument so that nothing frames x units need leave this call.

        `losses["kmeans"]` = sum 0.5 ||sg(s) - mu||^2 / mean_squared_distance, where mu is the
        nearest centroid, not the sampled one: it keeps centroids near their frames and pulls
        none towards frames drawn by chance.

        Args:
            frames_BTD: frames; what stands in padded ones is never read.
            mask_BT: bool, true on valid frames.
            embedding_KE: one row for each unit.
            tau: temperature of the relaxation; only sampling reads it.
            seed: of the noise; the same seed draws the same noise. Only sampling reads it.

        Raises:
            ValueError: shapes do not fit, a valid frame is not finite, or tau is not positive.
        """
        self._check(frames_BTD, mask_BT, embedding_KE, tau)
        with torch.autocast(frames_BTD.device.type, enabled=False):
            frames_ND, embedding_KE = frames_BTD[mask_BT].float(), embedding_KE.float()
            require_shapes(frames_ND, self.centroids_KD)
            require_finite(frames_ND)
            closeness_NK = closeness(frames_ND, self.centroids_KD)
            log_p_NK = log_probabilities(closeness_NK, self.sigma_squared)
            nearest_N = closeness_NK.argmax(dim=1)
            if self.sampled and self.training:
                num_frames, num_units = log_p_NK.shape
                noise_NK = gumbel_noise(num_frames, num_units, seed, frames_ND.device)
                units_N, embedded_NE = _straight_through(log_p_NK + noise_NK, embedding_KE, tau)
            else:
                units_N, embedded_NE = nearest_N, embedding_KE[nearest_N]
            return Quantized(
                embedded_BTE=_scatter(embedded_NE, mask_BT),
                units_BT=_scatter(units_N, mask_BT),
                losses={"kmeans": self._kmeans_loss(frames_ND.detach(), nearest_N)},
                stats=_statistics(log_p_NK.detach(), units_N, nearest_N),
            )

    def _kmeans_loss(self, frames_ND: Tensor, nearest_N: Tensor) -> Tensor:
        squared_distance = (frames_ND - self.centroids_KD[nearest_N]).square().sum()
        return 0.5 * squared_distance / self.mean_squared_distance

    def _check(self, frames_BTD: Tensor, mask_BT: Tensor, embedding_KE: Tensor, tau: float) -> None:
        if mask_BT.dtype != torch.bool or mask_BT.shape != frames_BTD.shape[:-1]:
            raise ValueError(
                f"the mask must be bool of shape {list(frames_BTD.shape[:-1])}, got "
                f"{mask_BT.dtype} of shape {list(mask_BT.shape)}"
            )
        if embedding_KE.ndim != 2 or len(embedding_KE) != len(self.centroids_KD):
            raise ValueError(
                f"the embedding needs a row for each of {len(self.centroids_KD)} units, got shape "
                f"{list(embedding_KE.shape)}"
            )
        if not tau > 0:
            raise ValueError(f"tau must be positive, got {tau}")


def gumbel_noise(num_frames: int, num_units: int, seed: int, device: torch.device) -> Tensor:
    """noise_NK ~ Gumbel(0, 1) float32, the same for the same seed, shape and kind of device."""
    generator = torch.Generator(device).manual_seed(seed)
    uniform_NK = torch.rand((num_frames, num_units), generator=generator, device=device)
    # rand can be 0 but never 1: only the lower end needs care.
    uniform_NK.clamp_(min=torch.finfo(torch.float32).tiny)
    return uniform_NK.log_().neg_().log_().neg_()


def _straight_through(scores_NK: Tensor, embedding_KE: Tensor, tau: float) -> tuple[Tensor, Tensor]:
    """units_N = argmax, and their embedding rows with the gradient of softmax(scores / tau).

    The rows themselves get the gradient of the one-hot choice, as its value is what they see.
    """
    units_N = scores_NK.detach().argmax(dim=1)
    relaxed_NE = torch.softmax(scores_NK / tau, dim=1) @ embedding_KE.detach()
    return units_N, embedding_KE[units_N] + (relaxed_NE - relaxed_NE.detach())


def _scatter(values_N: Tensor, mask_BT: Tensor) -> Tensor:
    """Values of the valid frames at their places, zero on the padded ones."""
    full = values_N.new_zeros((*mask_BT.shape, *values_N.shape[1:]))
    return full.index_put((mask_BT,), values_N)


def _statistics(log_p_NK: Tensor, units_N: Tensor, nearest_N: Tensor) -> dict[str, Tensor]:
    num_frames = units_N.new_tensor(len(units_N))
    divisor = num_frames.clamp(min=1)
    return {
        "num_frames": num_frames,
        "entropy": entropy(log_p_NK).sum() / divisor,
        "agreement": (units_N == nearest_N).sum() / divisor,
        "counts_K": torch.bincount(units_N, minlength=log_p_NK.shape[1]),
    }
