"""The codebook that k-means leaves, and that a quantizer starts from."""

from dataclasses import dataclass
from typing import Self

from safetensors.torch import load, save
from torch import Tensor

from pipeline.storage.artifacts import Artifact

FILE = "codebook.safetensors"


@dataclass(frozen=True)
class Codebook:
    """Centroids, and what is needed to say how far frames are from them.

    Attributes:
        centroids_KD: float32.
        calibration_ND: a few frames to calibrate sigma^2 on, float32.
        mean_squared_distance: of a frame to its nearest centroid.
    """

    centroids_KD: Tensor
    calibration_ND: Tensor
    mean_squared_distance: float

    def write(self, output: Artifact) -> None:
        """Write both tensors; `mean_squared_distance` is a score of the stage."""
        tensors = {
            "centroids": self.centroids_KD.contiguous(),
            "calibration_frames": self.calibration_ND.contiguous(),
        }
        with output.write(FILE) as file:
            file.write(save(tensors))

    @classmethod
    def read(cls, output: Artifact) -> Self:
        """What the codebook stage left in its output."""
        with output.read(FILE) as file:
            tensors = load(file.read())
        return cls(
            tensors["centroids"],
            tensors["calibration_frames"].float(),
            output.metrics()["mean_squared_distance"],
        )
