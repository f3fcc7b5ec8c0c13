"""Mixtures of units in place of units, for a model that was trained on units."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from pipeline.clustering.assignment import mixture
from pipeline.tokenizer.feature_mixer import FeatureMixer
from pipeline.tokenizer.unit_tokenizer import UnitTokenizer


@dataclass(frozen=True)
class SoftTokenizer:
    """How much of each unit a frame is: softmax_j(-||s - mu_j|| / tau) (arXiv 2606.06806)."""

    tokenizer: UnitTokenizer
    tau: float

    @property
    def mixer(self) -> FeatureMixer:
        return self.tokenizer.mixer

    def encode(
        self, waveforms: Sequence[Any], batch_seconds: float | None = None
    ) -> list[np.ndarray]:
        """Mixtures of each waveform, T x K float32; arguments and errors of `FeatureMixer.encode`."""
        return [
            mixture(torch.from_numpy(closeness_TK), self.tau).numpy()
            for closeness_TK in self.tokenizer.closeness(waveforms, batch_seconds)
        ]
