"""The codebook: what k-means leaves in its stage's output, and what a quantizer starts from."""

from dataclasses import dataclass
from typing import Self

from safetensors.torch import load, save
from torch import Tensor

from pipeline.clustering.kmeans import Fit
from pipeline.storage.artifacts import Artifact

FILE = "codebook.safetensors"


@dataclass(frozen=True)
class FittedCodebook:
    """A fit, and what it saw.

    Attributes:
        fit: centroids, and the sums of a pass over all frames that measured them.
        calibration_ND: a few frames to calibrate sigma^2 on, float32.
        num_held: frames that were in memory at the start.
        num_rejected: frames left out, since they held NaN or infinity.
    """

    fit: Fit
    calibration_ND: Tensor
    num_held: int
    num_rejected: int

    def write(self, output: Artifact) -> None:
        """Write "centroids" (K x D) and "calibration_frames" (N x D)."""
        tensors = {
            "centroids": self.fit.centroids_KD.contiguous(),
            "calibration_frames": self.calibration_ND.contiguous(),
        }
        with output.write(FILE) as file:
            file.write(save(tensors))

    @property
    def scores(self) -> dict[str, float]:
        sums = self.fit.sums
        return {
            "mean_squared_distance": sums.mean_squared_distance,
            "num_frames": sums.weight,
            "held_frames": float(self.num_held),
            "rejected_frames": float(self.num_rejected),
            "passes": float(self.fit.num_passes),
            "used_units": float((sums.weights_K > 0).sum()),
        }


@dataclass(frozen=True)
class Codebook:
    """Where a quantizer starts.

    Attributes:
        centroids_KD: float32.
        calibration_ND: frames to calibrate sigma^2 on, float32.
        mean_squared_distance: of a frame to its nearest centroid.
    """

    centroids_KD: Tensor
    calibration_ND: Tensor
    mean_squared_distance: float

    @classmethod
    def read(cls, output: Artifact) -> Self:
        """What the codebook's stage left: tensors, and a score."""
        with output.read(FILE) as file:
            tensors = load(file.read())
        return cls(
            tensors["centroids"],
            tensors["calibration_frames"].float(),
            output.metrics()["mean_squared_distance"],
        )
