"""Differentiable k-means: a sampled hard assignment that passes gradients straight through.

Onda, Kashiwagi, Tsunoo, Futami, Watanabe: "Differentiable k-means for fully-optimized discrete
token-based ASR", Interspeech 2025; Gumbel-softmax: Jang, Gu, Poole, ICLR 2017.
"""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal, Self

import torch
from torch import Tensor, nn

from pipeline.clustering.assignment import not_finite, require_finite, require_shapes
from pipeline.clustering.logits import Distance, Logits
from pipeline.quantizer.choice import Choice, choose
from pipeline.quantizer.distortion import count_units, distortion
from pipeline.quantizer.noise import Noise
from pipeline.quantizer.relaxation import Relaxation
from pipeline.quantizer.sigma import initial_sigma_squared
from pipeline.quantizer.unit_quantizer import Quantized, UnitQuantizer

if TYPE_CHECKING:
    from pipeline.clustering.codebook import Codebook
    from pipeline.config import Sigma

# What a training step embeds. "sampled": the row of a unit drawn from p, with the gradient of the
# Gumbel-softmax; "argmax": the nearest centroid's row, with the gradient of softmax(log p / tau);
# "soft": the Gumbel-softmax's own mean of rows; "nearest": the nearest centroid's row, and nothing
# but the embedding takes a gradient.
Assignment = Literal["sampled", "argmax", "soft", "nearest"]


class DifferentiableKMeans(UnitQuantizer):
    """p(j | s) = softmax_j(-sigma^2 d(s, mu_j)), sampled in training, argmin in evaluation.

    Ordinary k-means is the case `assignment="nearest"` with centroids that take no gradient. Their
    `requires_grad` decides whether `centroids_KD` and `log_sigma` learn.

    Args:
        centroids_KD: the initial centroids, K units x D dimensions.
        sigma_squared: the initial sigma^2.
        sigma_learned: whether log sigma takes a gradient.
        mean_squared_distance: of the frames to their nearest centroid after k-means; the unit of
            the k-means loss.
        distance: d, "squared" for ||s - mu||^2 or "euclidean" for ||s - mu||. Where a frame lies on
            a centroid, the latter has no gradient, and passes 0.
        assignment: what training embeds; evaluation always takes the nearest.
    """

    centroids_KD: nn.Parameter
    mean_squared_distance: Tensor

    def __init__(
        self,
        centroids_KD: Tensor,
        sigma_squared: float,
        sigma_learned: bool,  # noqa: FBT001
        mean_squared_distance: float,
        *,
        distance: Distance = "squared",
        assignment: Assignment = "sampled",
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
        self.distance: Distance = distance
        self.assignment = assignment

    @classmethod
    def of(cls, codebook: "Codebook", sigma: "Sigma", distance: Distance, **settings: Any) -> Self:
        """Start from a fitted codebook, with sigma^2 as the config asks for it."""
        return cls(
            codebook.centroids_KD,
            initial_sigma_squared(
                sigma,
                codebook.calibration_ND,
                codebook.centroids_KD,
                codebook.mean_squared_distance,
                distance,
            ),
            sigma.learned,
            codebook.mean_squared_distance,
            distance=distance,
            **settings,
        )

    @property
    def sigma_squared(self) -> Tensor:
        return (2 * self.log_sigma).exp()

    def parameter_groups(self) -> dict[str, list[nn.Parameter]]:
        return {"centroids": [self.centroids_KD], "sigma": [self.log_sigma]}

    @torch.compiler.disable  # type: ignore[untyped-decorator] # untyped in torch
    def forward(
        self,
        frames_BTD: Tensor,
        mask_BT: Tensor,
        embedding_KE: Tensor,
        tau: float,
        seed: int,
        *,
        keys_B: Sequence[int] | None = None,
    ) -> Quantized:
        """Quantize the frames where `mask_BT` is true and embed their units.

        Sampling: y = softmax((log p + g) / tau) with Gumbel noise g; the value embedded is the
        one-hot vector of argmax y, the gradient is y's. All of it in float32, under autocast too.
        The embedding is an argument so that no frames x units matrix leaves this call.

        `losses["kmeans"]` = sum 0.5 ||sg(s) - mu_u||^2 / mean_squared_distance, where u is the
        unit of the nearest centroid, not the sampled one: it keeps centroids near their frames
        and pulls none towards frames drawn by chance. If centroids settle first, u is the nearest
        of the settled ones, and mu_u the stored one: evaluation uses the stored centroids, so
        these are pulled to the frames that training assigns to them.

        Args:
            frames_BTD: frames; padded ones are never read.
            mask_BT: bool, true on valid frames. On the CPU it costs no waiting for a GPU.
            embedding_KE: one row for each unit.
            tau: temperature of the relaxation.
            seed: of the noise; the same seed draws the same noise.
            keys_B: a number from 0 for each utterance, from which its noise is drawn beside the
                seed, in whatever batch it is; by default its row.

        Raises:
            ValueError: shapes do not fit, tau is not positive, or a valid frame is not finite. On a
                GPU, which would have to be waited for, the k-means loss is not finite instead.
        """
        self._check(frames_BTD, mask_BT, embedding_KE, tau)
        frames_MD = frames_BTD.flatten(end_dim=1)
        valid_N = mask_BT.flatten().nonzero().squeeze(1)
        valid_N = valid_N.to(frames_MD.device, non_blocking=True)
        centroids_KD = self._settled(frames_MD, valid_N)
        choice = choose(
            frames_MD,
            valid_N,
            Logits.of(centroids_KD, self.sigma_squared, self.distance),
            embedding_KE.float(),
            self._relaxation(tau, seed, range(len(mask_BT)) if keys_B is None else keys_B, mask_BT),
        )
        if not frames_MD.is_cuda:
            _require_finite_entropy(choice.entropy_N)
        squared_distance = distortion(frames_MD, valid_N, choice.nearest_N, self.centroids_KD)
        return Quantized(
            embedded_BTE=choice.embedded_ME.unflatten(0, mask_BT.shape),
            units_BT=_scatter(choice.units_N, valid_N, mask_BT.shape),
            losses={"kmeans": 0.5 * squared_distance / self.mean_squared_distance},
            stats=self._statistics(choice),
        )

    @property
    def num_units(self) -> int:
        return len(self.centroids_KD)

    def _settled(self, _frames_MD: Tensor, _valid_N: Tensor) -> Tensor:
        """The centroids that this call's frames are compared with."""
        return self.centroids_KD

    def _relaxation(
        self, tau: float, seed: int, keys_B: Sequence[int], mask_BT: Tensor
    ) -> Relaxation | None:
        if self.assignment == "nearest" or not self.training:
            return None
        noise = None
        if self.assignment != "argmax":
            noise = Noise(seed, tuple(keys_B), tuple(mask_BT.sum(dim=1).tolist()))
        return Relaxation(tau=tau, noise=noise, hard=self.assignment != "soft")

    def _statistics(self, choice: Choice) -> dict[str, Tensor]:
        num_frames = choice.units_N.new_full((), len(choice.units_N))
        counts_K = count_units(choice.units_N, self.num_units)
        statistics = {"num_frames": num_frames, "counts_K": counts_K}
        if self.assignment != "nearest":  # which has no use for p, nor for the sigma that shapes it
            divisor = num_frames.clamp(min=1)
            statistics["entropy"] = choice.entropy_N.sum() / divisor
            statistics["perplexity"] = choice.entropy_N.exp().sum() / divisor
            statistics["noisy_share"] = (choice.units_N != choice.nearest_N).sum() / divisor
        return statistics

    def _check(self, frames_BTD: Tensor, mask_BT: Tensor, embedding_KE: Tensor, tau: float) -> None:
        if mask_BT.dtype != torch.bool or mask_BT.shape != frames_BTD.shape[:-1]:
            raise ValueError(
                f"the mask must be bool of shape {list(frames_BTD.shape[:-1])}, got "
                f"{mask_BT.dtype} of shape {list(mask_BT.shape)}"
            )
        require_shapes(frames_BTD.flatten(end_dim=-2), self.centroids_KD)
        if embedding_KE.ndim != 2 or len(embedding_KE) != self.num_units:
            raise ValueError(
                f"the embedding needs a row for each of {self.num_units} units, got shape "
                f"{list(embedding_KE.shape)}"
            )
        if not tau > 0:
            raise ValueError(f"tau must be positive, got {tau}")


def _require_finite_entropy(entropy_N: Tensor) -> None:
    """A frame with NaN or infinity has no entropy, and would silently become unit 0."""
    bad = int((~torch.isfinite(entropy_N)).sum())
    if bad:
        raise not_finite(bad, len(entropy_N))


def _scatter(values_N: Tensor, valid_N: Tensor, shape: torch.Size) -> Tensor:
    """The values of the valid frames among all of `shape` (B x T); zero on padded frames."""
    values_M = values_N.new_zeros(shape.numel()).index_copy(0, valid_N, values_N)
    return values_M.view(shape)
