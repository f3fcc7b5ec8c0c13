"""From the gradient of logits back to that of what made them, a tile of frames at a time.

Shapes: R frames of a tile, S near pairs of a frame and a centroid, D dimensions, K units.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from pipeline.clustering.frame_tiles import FrameTile
from pipeline.clustering.logits import Logits
from pipeline.clustering.near_pairs import NearPairs


@dataclass(frozen=True)
class LogitGradients:
    """Gradients of what `Logits` holds, summed up tile by tile; None for what needs none."""

    weight_KD: Tensor | None
    bias_K: Tensor | None
    sharpness: Tensor | None

    @classmethod
    def zeros(cls, logits: Logits, wanted: Sequence[bool] = (True, True, True)) -> "LogitGradients":
        """`wanted` is in the order of the fields."""
        parts = (logits.weight_KD, logits.bias_K, logits.sharpness)
        return cls(
            *(
                torch.zeros_like(part) if part is not None and wants else None
                for part, wants in zip(parts, wanted, strict=True)
            )
        )

    @property
    def are_wanted(self) -> bool:
        return self.weight_KD is not None or self.sharpness is not None

    def add(self, logits: Logits, tile: FrameTile, gradient_RK: Tensor, *, to_frames: bool) -> None:
        """Add what the gradient of the tile's logits makes; it and the tile are overwritten.

        `to_frames` turns `tile.frames_RD` into the gradient of the frames.
        """
        distances_RK = tile.distances_RK
        if logits.sharpness is None or distances_RK is None:
            self._add_products(tile.frames_RD, gradient_RK)
            if to_frames:
                torch.mm(gradient_RK, logits.weight_KD, out=tile.frames_RD)
            return
        if self.sharpness is not None:
            self.sharpness.sub_(torch.linalg.vecdot(gradient_RK, distances_RK).sum())
        # A frame on its centroid is pulled nowhere: there the root has no gradient.
        distances_RK.masked_fill_(distances_RK == 0, torch.inf)
        pull_RK = gradient_RK.mul_(logits.sharpness).div_(distances_RK)
        near = NearPairs.among(distances_RK, torch.linalg.vector_norm(tile.frames_RD, dim=1))
        self._add_pull(near, tile.frames_RD, pull_RK, logits.weight_KD, to_frames=to_frames)

    def _add_products(self, frames_RD: Tensor, gradient_RK: Tensor) -> None:
        if self.weight_KD is not None and self.bias_K is not None:
            self.weight_KD.addmm_(gradient_RK.T, frames_RD)
            self.bias_K.add_(gradient_RK.sum(dim=0))

    def _add_pull(
        self,
        near: NearPairs,
        frames_RD: Tensor,
        pull_RK: Tensor,
        weight_KD: Tensor,
        *,
        to_frames: bool,
    ) -> None:
        """Add pull (s - mu) to the gradient of mu, and its opposite to that of s.

        For near pairs it is the difference itself, for all others it goes through the products,
        2 s mu - ||mu||^2 = ||s||^2 - ||s - mu||^2.
        """
        pulls_P = pull_RK[near.frames_P, near.units_P]
        pull_RK[near.frames_P, near.units_P] = 0
        gradient_RK = pull_RK.div_(2)
        self._add_products(frames_RD, gradient_RK)
        of_frames_RD = None
        if to_frames:
            own_RD = frames_RD * (-2 * gradient_RK.sum(dim=1, keepdim=True))
            of_frames_RD = own_RD.addmm_(gradient_RK, weight_KD)
        for span, difference_SD in near.differences(frames_RD, weight_KD):
            pull_SD = difference_SD.mul_(pulls_P[span, None])
            if self.weight_KD is not None:
                self.weight_KD.index_add_(0, near.units_P[span], pull_SD, alpha=0.5)
            if of_frames_RD is not None:
                of_frames_RD.index_add_(0, near.frames_P[span], pull_SD, alpha=-1)
        if of_frames_RD is not None:
            frames_RD.copy_(of_frames_RD)
