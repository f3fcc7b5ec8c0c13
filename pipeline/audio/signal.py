"""Samples as a signal: their scale, what can be heard and what is cut off, channels that cancel.

A recording is looked at in blocks. The *swing* of a block is its highest sample minus its lowest,
which a constant offset does not change.
"""

import math
from typing import Any, NamedTuple, Self

import numpy as np
import numpy.typing as npt

Samples = npt.NDArray[np.float32]

BLOCK_SECONDS = 0.05
# Full scale is 1. Float audio may exceed it, but 30 dB above it are integers written as floats; and
# nothing was ever recorded below a step of 24 bits.
LARGEST = 32.0
SMALLEST = 2.0**-24
# 16 steps of 16 bits: dither and an idle telephone line stay below.
AUDIBLE_SWING = 2.0**-11
# Lossy formats overshoot by less than this.
OVER_FULL_SCALE = 1.5
# Unless channels cancel, the loudest of n leaves at least 1/n of itself in their mean; the share is
# that of the loudness which is lost.
CANCELLED = math.sqrt(0.5)
CANCELLED_SHARE = 0.2

_STEP = 2.0**-15
_TOP = 1.0 - _STEP  # the highest value of 16 bits
_QUIETEST_CLIPPING = 0.125  # in 8 bits, quieter speech meets its own maximum again and again
_CLIPPED_RUN = 3
# Dither has three values, also in 8 bits, where it swings by 2^-6.
_DITHER_VALUES = 3
_DITHER_SWING = 2.0**-5


def fault(
    samples: npt.NDArray[Any], largest: float = LARGEST, smallest: float = SMALLEST
) -> str | None:
    """Why float samples, of any shape, cannot be audio; None if they can.

    The largest of them is at most `largest`, and at least `smallest` or 0.
    """
    low, high = float(samples.min(initial=0.0)), float(samples.max(initial=0.0))
    if not (math.isfinite(low) and math.isfinite(high)):
        return "audio holds NaN or infinite samples"
    peak = max(high, -low)
    if peak > largest:
        return f"out of scale: samples reach {peak:g}, where full scale is 1; {_cure(peak)}"
    if 0 < peak < smallest:
        return (
            f"scale is too small: samples reach only {peak:g}, where full scale is 1; if they hold "
            "speech, scale them up"
        )
    return None


def _cure(peak: float) -> str:
    for bits in (16, 24, 32):
        if peak <= 2 ** (bits - 1):
            return f"if they are {bits}-bit integers, divide them by {2 ** (bits - 1)}"
    return "make them again from their source"


def mix(samples_SC: Samples, sample_rate_hz: int) -> Samples:
    """The mono samples (num_samples,) of samples (num_samples x num_channels): see `Signal`."""
    if samples_SC.shape[1] == 1 or not len(samples_SC):
        return samples_SC[:, 0]
    return np.ascontiguousarray(Signal.of(samples_SC, sample_rate_hz).mono.samples_S)


class Channel(NamedTuple):
    """The lowest and the highest sample of each block of a channel, and of the whole."""

    samples_S: Samples
    low_B: Samples
    high_B: Samples
    low: float
    high: float

    @classmethod
    def of(cls, samples_S: Samples, sample_rate_hz: int) -> Self:
        contiguous_S = np.ascontiguousarray(samples_S)
        size = max(2, round(sample_rate_hz * BLOCK_SECONDS))
        starts = np.arange(0, len(contiguous_S), size)
        low_B = np.minimum.reduceat(contiguous_S, starts)
        high_B = np.maximum.reduceat(contiguous_S, starts)
        return cls(samples_S, low_B, high_B, float(low_B.min()), float(high_B.max()))

    @property
    def num_blocks(self) -> int:
        return len(self.low_B)

    @property
    def peak(self) -> float:
        return max(self.high, -self.low)

    @property
    def swings(self) -> Samples:
        return self.high_B - self.low_B

    @property
    def num_audible(self) -> int:
        """How many blocks can be heard."""
        return int(np.count_nonzero(self.swings > AUDIBLE_SWING))

    @property
    def is_dither(self) -> bool:
        """Whether the samples are as few values as a converter makes of silence."""
        return (
            self.high - self.low < _DITHER_SWING
            and len(np.unique(self.samples_S)) <= _DITHER_VALUES
        )

    @property
    def num_constant(self) -> int:
        """How many blocks at the end have one value, if not all have."""
        return int((self.swings[::-1] != 0).argmax())

    @property
    def clipped_share(self) -> float:
        """The share of samples that stay at the highest or the lowest value, three or more in a row."""
        top, bottom = _limit(self.high), -_limit(-self.low)
        # Without clipping, the highest sample is in one block, and the lowest in one.
        if np.count_nonzero(self.high_B >= top) + np.count_nonzero(self.low_B <= bottom) <= 2:
            return 0.0
        cut_S = (self.samples_S >= top) | (self.samples_S <= bottom)
        edges = np.flatnonzero(np.diff(cut_S, prepend=False, append=False))
        runs = edges[1::2] - edges[::2]
        return float(runs[runs >= _CLIPPED_RUN].sum()) / len(cut_S)


class Signal(NamedTuple):
    """The channels of a recording as one.

    It is the mean of all channels that can be heard, or the loudest alone where they cancel each
    other in the mean.

    Attributes:
        mono: the signal.
        channels: all of the recording.
        used: which of them the signal is made of.
        is_cancelled: whether that is the loudest alone.
    """

    mono: Channel
    channels: list[Channel]
    used: list[int]
    is_cancelled: bool

    @classmethod
    def of(cls, samples_SC: Samples, sample_rate_hz: int) -> Self:
        """The signal of samples (num_samples x num_channels), at least one."""
        channels = [Channel.of(samples_S, sample_rate_hz) for samples_S in samples_SC.T]
        used = [0]
        if len(channels) > 1:
            used = [index for index, channel in enumerate(channels) if channel.num_audible] or used
        if len(used) == 1:
            return cls(channels[used[0]], channels, used, is_cancelled=False)
        mean = Channel.of(_mean(samples_SC, used), sample_rate_hz)
        swings_UB = np.stack([channels[index].swings for index in used])
        if _share_lost(mean.swings, swings_UB) <= CANCELLED_SHARE:
            return cls(mean, channels, used, is_cancelled=False)
        loudest = used[int(np.square(swings_UB).sum(axis=1).argmax())]
        return cls(channels[loudest], channels, [loudest], is_cancelled=True)

    @property
    def clipped_share(self) -> float:
        """The largest of the channels that are used."""
        return max(self.channels[index].clipped_share for index in self.used)


def _share_lost(mean_B: Samples, swings_UB: Samples) -> float:
    """The share of the channels' power in blocks where they cancel each other in the mean."""
    loudest_B = swings_UB.max(axis=0)
    lost_B = mean_B < CANCELLED / len(swings_UB) * loudest_B
    power_B = np.square(loudest_B)
    return float(power_B @ lost_B) / float(power_B.sum())


def _mean(samples_SC: Samples, channels: list[int]) -> Samples:
    """The mean of some channels; as a product it takes a tenth of the time of numpy's own."""
    weights_C = np.zeros(samples_SC.shape[1], np.float32)
    weights_C[channels] = 1 / len(channels)
    mean_S: Samples = samples_SC @ weights_C
    return mean_S


def _limit(peak: float) -> float:
    """From where on a sample counts as cut off, if the largest of this sign is `peak`."""
    if peak < _QUIETEST_CLIPPING:
        return math.inf
    return (peak if peak > OVER_FULL_SCALE else min(peak, _TOP)) - _STEP
