"""The grid of frames that an SSL model lays over the samples of an utterance."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import prod
from typing import TYPE_CHECKING, Self, TypeVar

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

Frame = TypeVar("Frame", float, "NDArray[np.float64]")


@dataclass(frozen=True)
class FrameGrid:
    """Frame i stands for `receptive_field` samples from `start + hop * i` on, at `sample_rate_hz`.

    `start` is negative where a model's first frame is centred on the first samples, with padding
    before them. A model whose positions end gives at most `max_frames` in one pass.
    """

    receptive_field: int
    hop: int
    sample_rate_hz: int
    start: int = 0
    max_frames: int | None = None

    @classmethod
    def of_convolutions(
        cls, kernels: Sequence[int], strides: Sequence[int], sample_rate_hz: int
    ) -> Self:
        """The grid of a stack of unpadded, undilated convolutions, first layer first."""
        jumps = [prod(strides[:layer]) for layer in range(len(strides))]
        reach = sum((kernel - 1) * jump for kernel, jump in zip(kernels, jumps, strict=True))
        return cls(1 + reach, prod(strides), sample_rate_hz)

    def pooled(self, pool: int) -> Self:
        """The grid of the means over each `pool` neighbouring frames; an incomplete group is none."""
        return replace(
            self,
            receptive_field=self.receptive_field + self.hop * (pool - 1),
            hop=self.hop * pool,
            max_frames=None if self.max_frames is None else self.max_frames // pool,
        )

    @property
    def frames_per_second(self) -> float:
        return self.sample_rate_hz / self.hop

    def num_frames(self, num_samples: int) -> int:
        """How many frames end within the audio; 0 where it is shorter than one."""
        if num_samples < self.num_samples(1):
            return 0
        return (num_samples - self.num_samples(1)) // self.hop + 1

    def num_samples(self, num_frames: int) -> int:
        """The length of the shortest audio with so many frames, at least one."""
        return self.start + self.receptive_field + self.hop * (num_frames - 1)

    def centre_seconds(self, frame: Frame) -> Frame:
        """The time of the middle of `frame`, or of each of several."""
        middle = self.start + self.receptive_field / 2 + self.hop * frame
        return middle / self.sample_rate_hz


# wav2vec 2.0, HuBERT and WavLM share this one: frames of 25 ms, 50 a second.
SSL_GRID = FrameGrid(receptive_field=400, hop=320, sample_rate_hz=16000)
