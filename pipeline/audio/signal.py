"""Samples as a signal: their scale, what can be heard and what is cut off, channels that cancel.

A recording is looked at in blocks. The *swing* of a block is its highest sample minus its lowest,
which a constant offset does not change.
"""

import math
from itertools import takewhile
from typing import Any, NamedTuple, Self

import numpy as np
import numpy.typing as npt

from pipeline.audio.unusable import UnusableError

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

_BLOCKS_AT_ONCE = 4096
_STEP = 2.0**-15
_TOP = 1.0 - _STEP  # the highest value of 16 bits
_QUIETEST_CLIPPING = 0.125  # in 8 bits, quieter speech meets its own maximum again and again
_CLIPPED_RUN = 3
# Dither has three values, also in 8 bits, where it swings by 2^-6.
_DITHER_VALUES = 3
_DITHER_SWING = 2.0**-5


def fault(
    low: float, high: float, largest: float = LARGEST, smallest: float = SMALLEST
) -> str | None:
    """Why samples from `low` to `high` cannot be audio; None if they can.

    At most `largest`, and at least `smallest` or all 0.
    """
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


def extremes(samples: npt.NDArray[Any]) -> tuple[float, float]:
    """The lowest and the highest sample, at most and at least 0; NaN if one is."""
    return float(samples.min(initial=0.0)), float(samples.max(initial=0.0))


def _cure(peak: float) -> str:
    for bits in (16, 24, 32):
        if peak <= 2 ** (bits - 1):
            return f"if they are {bits}-bit integers, divide them by {2 ** (bits - 1)}"
    return "make them again from their source"


def mix(samples_SC: Samples, sample_rate_hz: int) -> Samples:
    """The mono samples (num_samples,) of samples (num_samples x num_channels): see `Signal`.

    Raises:
        UnusableError: as `Signal.of`.
    """
    if samples_SC.shape[1] > 1 and len(samples_SC):
        return Signal.of(samples_SC, sample_rate_hz).mono_S
    if reason := fault(*extremes(samples_SC)):
        raise UnusableError(reason)
    return samples_SC[:, 0]


class Channel(NamedTuple):
    """What the blocks of a channel say about it.

    Attributes:
        low, high: the lowest and the highest sample.
        lows, highs: those of each block.
        swings: of each block.
        num_audible: how many blocks can be heard.
    """

    low: float
    high: float
    lows: list[float]
    highs: list[float]
    swings: list[float]
    num_audible: int

    @classmethod
    def of(cls, lows: list[float], highs: list[float]) -> Self:
        swings = [high - low for low, high in zip(lows, highs, strict=True)]
        num_audible = [swing > AUDIBLE_SWING for swing in swings].count(True)
        return cls(min(lows), max(highs), lows, highs, swings, num_audible)

    @property
    def peak(self) -> float:
        return max(self.high, -self.low)

    @property
    def num_blocks(self) -> int:
        return len(self.swings)

    @property
    def num_constant(self) -> int:
        """How many blocks at the end have one value."""
        return sum(1 for _ in takewhile(lambda swing: swing == 0, reversed(self.swings)))


class Signal(NamedTuple):
    """The channels of a recording as one.

    It is the mean of all channels that can be heard, or the loudest alone where they cancel each
    other in the mean.

    Attributes:
        samples_SC: the recording.
        channels: all of the recording.
        mono: the signal.
        used: which channels the signal is made of.
        is_cancelled: whether that is the loudest alone.
    """

    samples_SC: Samples
    channels: list[Channel]
    mono: Channel
    used: list[int]
    is_cancelled: bool

    @classmethod
    def of(cls, samples_SC: Samples, sample_rate_hz: int) -> Self:
        """The signal of samples (num_samples x num_channels), at least one.

        Raises:
            UnusableError: samples are NaN or infinite, or their scale is absurd.
        """
        low_RB, high_RB = _extremes_of_blocks(samples_SC, sample_rate_hz)
        if reason := fault(float(low_RB.min()), float(high_RB.max())):
            raise UnusableError(reason)
        rows = list(map(Channel.of, low_RB.tolist(), high_RB.tolist()))
        channels, mean = rows[: samples_SC.shape[1]], rows[-1]
        used = [index for index, channel in enumerate(channels) if channel.num_audible] or [0]
        if len(used) == 1:
            return cls(samples_SC, channels, channels[used[0]], used, is_cancelled=False)
        if len(used) < len(channels):
            rows_1B = _extremes_of_blocks(_mean(samples_SC, used)[:, None], sample_rate_hz)
            mean = Channel.of(*(row_1B[0].tolist() for row_1B in rows_1B))
        swings_UB = np.array([channels[index].swings for index in used])
        if _share_lost(np.array(mean.swings), swings_UB) <= CANCELLED_SHARE:
            return cls(samples_SC, channels, mean, used, is_cancelled=False)
        loudest = used[int(np.square(swings_UB).sum(axis=1).argmax())]
        return cls(samples_SC, channels, channels[loudest], [loudest], is_cancelled=True)

    @property
    def mono_S(self) -> Samples:  # noqa: N802 - S is the axis
        if len(self.used) > 1:
            return _mean(self.samples_SC, self.used)
        return np.ascontiguousarray(self.samples_SC[:, self.used[0]])

    @property
    def is_dither(self) -> bool:
        """Whether the samples are as few values as a converter makes of silence."""
        return (
            self.mono.high - self.mono.low < _DITHER_SWING
            and len(np.unique(self.mono_S)) <= _DITHER_VALUES
        )

    @property
    def clipped_share(self) -> float:
        """The share of clipped samples, in the channel of those used that has most."""
        return max(
            _clipped_share(self.channels[index], self.samples_SC[:, index]) for index in self.used
        )


def _extremes_of_blocks(samples_SC: Samples, sample_rate_hz: int) -> tuple[Samples, Samples]:
    """The lowest and the highest sample of each block, in rows for the channels and their mean.

    A long recording goes in pieces, which take less memory.
    """
    size = max(2, round(sample_rate_hz * BLOCK_SECONDS))
    step = size * _BLOCKS_AT_ONCE
    pieces = [
        _extremes_of_piece(samples_SC[first : first + step], size)
        for first in range(0, len(samples_SC), step)
    ]
    if len(pieces) == 1:
        return pieces[0]
    lows, highs = zip(*pieces, strict=True)
    return np.concatenate(lows, axis=1), np.concatenate(highs, axis=1)


def _extremes_of_piece(samples_SC: Samples, size: int) -> tuple[Samples, Samples]:
    num_samples, num_channels = samples_SC.shape
    rows_RS = samples_SC.T
    if num_channels > 1:
        rows_RS = np.empty((num_channels + 1, num_samples), np.float32)
        rows_RS[:-1] = samples_SC.T
        np.dot(np.full(num_channels, 1 / num_channels, np.float32), rows_RS[:-1], out=rows_RS[-1])
    starts = np.arange(0, num_samples, size)
    low_RB = np.minimum.reduceat(rows_RS, starts, axis=1)
    return low_RB, np.maximum.reduceat(rows_RS, starts, axis=1)


def _clipped_share(channel: Channel, samples_S: Samples) -> float:
    """The share of samples that stay at the highest or the lowest value, three or more in a row."""
    top, bottom = _limit(channel.high), -_limit(-channel.low)
    reached = [high >= top for high in channel.highs].count(True)
    reached += [low <= bottom for low in channel.lows].count(True)
    # Without clipping, the highest sample is in one block, and the lowest in one.
    if reached <= 2:
        return 0.0
    cut_S = (samples_S >= top) | (samples_S <= bottom)
    edges = np.flatnonzero(np.diff(cut_S, prepend=False, append=False))
    runs = edges[1::2] - edges[::2]
    return float(runs[runs >= _CLIPPED_RUN].sum()) / len(cut_S)


def _share_lost(mean_B: npt.NDArray[Any], swings_UB: npt.NDArray[Any]) -> float:
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
