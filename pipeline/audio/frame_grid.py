"""The grid of frames that a convolutional front end lays over the samples of an utterance."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import Self


@dataclass(frozen=True)
class FrameGrid:
    """Frame i reads samples [hop * i, hop * i + receptive_field) at `sample_rate_hz`."""

    receptive_field: int
    hop: int
    sample_rate_hz: int

    @classmethod
    def of_convolutions(
        cls, kernels: Sequence[int], strides: Sequence[int], sample_rate_hz: int
    ) -> Self:
        """The grid of a stack of unpadded, undilated convolutions, first layer first."""
        jumps = [prod(strides[:layer]) for layer in range(len(strides))]
        reach = sum((kernel - 1) * jump for kernel, jump in zip(kernels, jumps, strict=True))
        return cls(1 + reach, prod(strides), sample_rate_hz)

    @property
    def frames_per_second(self) -> float:
        return self.sample_rate_hz / self.hop

    def num_frames(self, num_samples: int) -> int:
        """How many complete frames fit; 0 where the audio is shorter than one."""
        if num_samples < self.receptive_field:
            return 0
        return (num_samples - self.receptive_field) // self.hop + 1

    def centre_seconds(self, frame: int) -> float:
        """The time of the middle of `frame`'s receptive field."""
        return (self.receptive_field / 2 + self.hop * frame) / self.sample_rate_hz


# wav2vec 2.0, HuBERT and WavLM share this one: frames of 25 ms, 50 a second.
SSL_GRID = FrameGrid(receptive_field=400, hop=320, sample_rate_hz=16000)
