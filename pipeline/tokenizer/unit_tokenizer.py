"""The trained tokenizer: SSL model, layer weights and codebook. Audio in, units out."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file
from torch import nn

from pipeline.clustering.assignment import assign
from pipeline.features.batching import batch_seconds_on
from pipeline.features.windows import encode_in_windows
from pipeline.tokenizer.feature_mixer import (
    WEIGHTS,
    FeatureMixer,
    load_mixer,
    read_settings,
    save_folder,
)
from pipeline.tokenizer.waveform_argument import as_waveforms

MODEL_TYPE = "unit_tokenizer"


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

    @torch.inference_mode()
    def encode(
        self, waveforms: Sequence[Any], batch_seconds: float | None = None
    ) -> list[np.ndarray]:
        """Units of each waveform (uint16, one a frame); arguments and errors of `FeatureMixer.encode`."""
        ssl, windowing = self.mixer.ssl, self.mixer.windowing
        usable = as_waveforms(waveforms, ssl.grid)
        limit = batch_seconds_on(self.centroids_KD.device, batch_seconds)
        units = encode_in_windows(
            self._units, usable, ssl.grid, windowing, limit, padded_samples=ssl.padded_samples
        )
        return [units_T1[:, 0] for units_T1 in units]

    def _units(self, waveforms: list[np.ndarray]) -> list[np.ndarray]:
        """Units (T x 1) of waveforms in one pass; features are dropped with their window, so an hour of them is never held."""
        return [
            assign(torch.from_numpy(frames_TD).to(self.centroids_KD.device), self.centroids_KD)
            .cpu()
            .numpy()
            .astype(np.uint16)[:, None]
            for frames_TD in self.mixer.encode_batch(waveforms)
        ]

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
