"""Frames and centroids so near each other that products of them do not show how far apart they are."""

from collections.abc import Iterator
from dataclasses import dataclass

from torch import Tensor

from pipeline.clustering.tiles import tiles


@dataclass(frozen=True)
class NearPairs:
    """P pairs of a frame and a centroid.

    ||s||^2 - 2 s mu + ||mu||^2 is wrong by about 1e-7 ||s||^2 in float32, which near 0 is all of it,
    and the root makes it larger. For these few pairs the difference itself is taken.

    Attributes:
        frames_P: int64, rows of a tile of frames.
        units_P: int64.
    """

    frames_P: Tensor
    units_P: Tensor

    @classmethod
    def among(cls, distances_NK: Tensor, lengths_N: Tensor) -> "NearPairs":
        """The pairs at most a tenth of the frame's length apart: products give the others well."""
        return cls(*(distances_NK <= 0.1 * lengths_N[:, None]).nonzero(as_tuple=True))

    def differences(self, frames_ND: Tensor, weight_KD: Tensor) -> Iterator[tuple[slice, Tensor]]:
        """The span of some pairs among P, and their s - mu, S x D; `weight_KD` is 2 mu."""
        for span in tiles(len(self.units_P), frames_ND.shape[1], frames_ND.device):
            frames_SD = frames_ND.index_select(0, self.frames_P[span])
            weight_SD = weight_KD.index_select(0, self.units_P[span])
            yield span, frames_SD.sub_(weight_SD, alpha=0.5)
