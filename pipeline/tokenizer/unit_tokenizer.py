"""The trained tokenizer: SSL model, layer weights and codebook. Audio in, units out."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file
from torch import nn

from pipeline.clustering.assignment import assign, closeness, require_finite
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

    def encode(
        self, waveforms: Sequence[Any], batch_seconds: float | None = None
    ) -> list[np.ndarray]:
        """Units of each waveform (uint16, one a frame); arguments and errors of `FeatureMixer.encode`."""

        def nearest(frames_TD: torch.Tensor) -> np.ndarray:
            units_T = assign(frames_TD, self.centroids_KD).cpu().numpy()
            return units_T.astype(np.uint16)[:, None]

        return [units_T1[:, 0] for units_T1 in self._encode(nearest, waveforms, batch_seconds)]

    def closeness(
        self, waveforms: Sequence[Any], batch_seconds: float | None = None
    ) -> list[np.ndarray]:
        """-||s - mu_j|| of each frame and unit, T x K float32: 400 kB a second with 2,000 units.

        Arguments and errors are those of `FeatureMixer.encode`.
        """

        def to_all(frames_TD: torch.Tensor) -> np.ndarray:
            require_finite(frames_TD)
            return closeness(frames_TD, self.centroids_KD, "euclidean").cpu().numpy()

        return self._encode(to_all, waveforms, batch_seconds)

    @torch.inference_mode()
    def _encode(
        self,
        describe: Callable[[torch.Tensor], np.ndarray],
        waveforms: Sequence[Any],
        batch_seconds: float | None,
    ) -> list[np.ndarray]:
        """What `describe` says of the frames; they are dropped with their window, so an hour of them is never held."""

        def described(batch: list[np.ndarray]) -> list[np.ndarray]:
            frames = map(torch.from_numpy, self.mixer.encode_batch(batch))
            return [describe(frames_TD.to(self.centroids_KD.device)) for frames_TD in frames]

        ssl, windowing = self.mixer.ssl, self.mixer.windowing
        usable = as_waveforms(waveforms, ssl.grid)
        limit = batch_seconds_on(self.centroids_KD.device, batch_seconds)
        return encode_in_windows(
            described, usable, ssl.grid, windowing, limit, padded_samples=ssl.padded_samples
        )

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
