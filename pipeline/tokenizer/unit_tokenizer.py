"""The trained tokenizer: SSL model, layer weights and codebook. Audio in, units out."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from safetensors.torch import load_file
from torch import nn

from pipeline.clustering.assignment import closeness, nearest, not_finite
from pipeline.features.inference import Awaited, Compile
from pipeline.tokenizer.feature_mixer import (
    WEIGHTS,
    FeatureMixer,
    load_mixer,
    read_settings,
    save_folder,
)

MODEL_TYPE = "unit_tokenizer"
NO_UNIT = -1  # of a frame with NaN or infinity


class UnitTokenizer(nn.Module):
    """Units of speech at the SSL model's frame rate: the nearest centroid of each mixed frame.

    Saved as a folder: `config.json`, `model.safetensors` (layer weights and codebook) and `ssl/`,
    which is an ordinary transformers checkpoint.
    """

    def __init__(self, mixer: FeatureMixer, centroids_KD: torch.Tensor) -> None:
        super().__init__()
        self.mixer = mixer
        self.centroids_KD = nn.Buffer(centroids_KD.detach().float())

    @property
    def num_units(self) -> int:
        return self.centroids_KD.shape[0]

    def encode(
        self, waveforms: Sequence[Any], batch_seconds: float | None = None
    ) -> list[np.ndarray]:
        """Units of each waveform (uint16, one a frame); arguments and errors of `FeatureMixer.encode`."""
        return [wait() for wait in self.start(waveforms, batch_seconds)]

    def start(self, waveforms: Sequence[Any], batch_seconds: float | None = None) -> list[Awaited]:
        """What waits for each waveform's units: a GPU may work for others until they are read."""

        def units(mixed_BTD: torch.Tensor) -> torch.Tensor:
            units_N, squared_distances_N = nearest(mixed_BTD.flatten(0, 1), self.centroids_KD)
            units_N = units_N.masked_fill_(~squared_distances_N.isfinite(), NO_UNIT)
            return units_N.view(*mixed_BTD.shape[:2], 1)

        found = self.mixer.start(units, waveforms, batch_seconds)
        return [partial(_units, wait) for wait in found]

    def closeness(
        self, waveforms: Sequence[Any], batch_seconds: float | None = None
    ) -> list[np.ndarray]:
        """-||s - mu_j|| of each frame and unit, T x K float32: 400 kB a second with 2,000 units.

        Arguments and errors are those of `FeatureMixer.encode`.
        """

        def to_all(mixed_BTD: torch.Tensor) -> torch.Tensor:
            closeness_NK = closeness(mixed_BTD.flatten(0, 1), self.centroids_KD, "euclidean")
            return closeness_NK.view(*mixed_BTD.shape[:2], -1)

        found = [wait() for wait in self.mixer.start(to_all, waveforms, batch_seconds)]
        for closeness_TK in found:
            _require_all(np.asarray(np.isfinite(closeness_TK).all(axis=1)))
        return found

    def place(self, device: torch.device | str, compiling: Compile = "auto") -> Self:
        """As `FeatureMixer.place`; distances to centroids are computed in float32 everywhere."""
        self.mixer.place(device, compiling)
        return self.to(device)

    def save_pretrained(self, folder: str | Path) -> None:
        settings = {"model_type": MODEL_TYPE, "num_units": self.num_units}
        save_folder(Path(folder), self.mixer, settings, {"centroids_KD": self.centroids_KD})

    @classmethod
    def from_pretrained(cls, folder: str | Path) -> "UnitTokenizer":
        """Load what `save_pretrained` wrote.

        Raises:
            ValueError: the folder holds something else.
        """
        mixer = load_mixer(Path(folder), read_settings(folder, MODEL_TYPE))
        return cls(mixer, load_file(Path(folder) / WEIGHTS)["centroids_KD"]).eval()


def _units(wait: Awaited) -> np.ndarray:
    units_T1 = wait()
    _require_all(units_T1 != NO_UNIT)
    return units_T1[:, 0].astype(np.uint16)


def _require_all(finite: np.ndarray) -> None:
    bad = int((~finite).sum())
    if bad:
        raise not_finite(bad, len(finite))
