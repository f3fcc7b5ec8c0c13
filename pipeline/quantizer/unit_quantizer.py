"""What the joint model asks of a quantizer, and what it gets from it."""

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor, nn


@dataclass(frozen=True)
class Quantized:
    """What the ASR model reads, and how the quantizer did.

    Attributes:
        embedded_BTE: the embedding row of each frame's unit; zero on padded frames.
        units_BT: the unit of each frame, int64; 0 on padded frames.
        losses: sums over the valid frames; "kmeans" is added to the objective.
        stats: detached; `num_frames`, the valid ones, and `counts_K`, frames of each unit. If
            units are chosen by a distribution p, also means over the valid frames, 0 where there
            are none: `entropy` of p in nats, `perplexity` of p (the exponential of that), and
            `noisy_share`, the frames whose unit is not the nearest centroid.
    """

    embedded_BTE: Tensor
    units_BT: Tensor
    losses: dict[str, Tensor]
    stats: dict[str, Tensor]


class UnitQuantizer(nn.Module):
    """Frames in, embedded units out.

    Attributes:
        centroids_KD: what the trained tokenizer keeps. In evaluation mode, a frame's unit is the
            one whose centroid is nearest to it.
    """

    centroids_KD: Tensor

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

        Args:
            frames_BTD: frames; what stands in padded ones means nothing.
            mask_BT: bool, true on valid frames.
            embedding_KE: one row for each unit.
            tau: temperature, falling as training goes on.
            seed: of everything random; the same seed draws the same.
            keys_B: a number from 0 for each utterance, which tells it from the others of the step
                in whatever batch it is; by default its row.
        """
        raise NotImplementedError

    def parameter_groups(self) -> dict[str, list[nn.Parameter]]:
        """The parameters by the name of their rate in `training.phases[].learning_rates`."""
        return {"centroids": list(self.parameters())}
