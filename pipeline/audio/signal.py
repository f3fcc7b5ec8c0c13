"""What samples tell of a recording: their scale, what can be heard, clipping, channels that cancel.

A recording is looked at in blocks. The *swing* of a block is its highest sample minus its lowest,
which a constant offset does not change.
"""

import math
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
FEWEST_AUDIBLE_BLOCKS = 2
# Speech that is 6, 12 and 40 dB too loud has 0.5, 4 and 50 % of its samples cut off.
CLIPPED_SHARE = 0.005
CLIPPED_BEYOND_USE_SHARE = 0.5
MOSTLY_SILENT_SHARE = 0.8
# Lossy formats overshoot by less than this.
OVER_FULL_SCALE = 1.5
# Unless channels cancel, the loudest of n leaves at least 1/n of itself in their mean.
CANCELLED = math.sqrt(0.5)

# What a warning may begin with.
WARNINGS = ("clipped", "mostly silent", "over full scale", "cancelled mix", "silent channel")

_STEP = 2.0**-15
_TOP = 1.0 - _STEP  # the highest value of 16 bits
_QUIETEST_CLIPPING = 0.125  # in 8 bits, quieter speech meets its own maximum again and again
_CLIPPED_RUN = 3


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
            f"out of scale: samples reach only {peak:g}, where full scale is 1; if they hold "
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
    def loudness(self) -> float:
        """The root of the mean square of the swing."""
        swings_B = self.swings
        return math.sqrt(float(swings_B @ swings_B) / len(swings_B))

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
        loudest = max(used, key=lambda index: channels[index].loudness)
        if mean.loudness < CANCELLED * channels[loudest].loudness / len(used):
            return cls(channels[loudest], channels, [loudest], is_cancelled=True)
        return cls(mean, channels, used, is_cancelled=False)

    def examine(self) -> list[str]:
        """What somebody should know of it although it can be used; each begins with one of WARNINGS.

        Raises:
            UnusableError: nothing can be learned from it.
        """
        mono, num_audible = self.mono, self.mono.num_audible
        # The last block may be too short to be heard.
        if num_audible < min(FEWEST_AUDIBLE_BLOCKS, max(1, len(mono.low_B) - 1)):
            raise UnusableError(f"silence: {_describe(mono)}")
        clipped = max(self.channels[index].clipped_share for index in self.used)
        if clipped > CLIPPED_BEYOND_USE_SHARE:
            raise UnusableError(f"clipped beyond use: {_cut_off(clipped)}")
        found = [f"clipped: {_cut_off(clipped)}"] if clipped >= CLIPPED_SHARE else []
        if num_audible < (1 - MOSTLY_SILENT_SHARE) * len(mono.low_B):
            found.append(f"mostly silent: {_describe(mono)}; cut it to the speech")
        if mono.peak > OVER_FULL_SCALE:
            found.append(f"over full scale: samples reach {mono.peak:g}; scale them to at most 1")
        return found if len(self.channels) == 1 else found + self._examine_channels()

    def _examine_channels(self) -> list[str]:
        silent = [index + 1 for index, each in enumerate(self.channels) if not each.num_audible]
        total, found = len(self.channels), []
        if self.is_cancelled:
            (loudest,) = self.used
            found.append(
                "cancelled mix: the channels cancel each other; the loudest, channel "
                f"{loudest + 1} of {total}, is used alone"
            )
        if silent:
            found.append(f"silent channel: {silent} of {total}; the others are used")
        return found


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


def _describe(channel: Channel) -> str:
    """What can be heard where most is silent."""
    if channel.low == channel.high:
        return f"every sample is {channel.low:g}"
    if channel.num_audible:
        heard, seconds = (
            count * BLOCK_SECONDS for count in (channel.num_audible, len(channel.low_B))
        )
        return f"about {heard:.3g} s of {seconds:.3g} s can be heard"
    swing = channel.swings.max()
    return f"nothing is louder than {swing:.2g} of full scale; if it holds speech, scale it up"


def _cut_off(share: float) -> str:
    return f"{share:.1%} of the samples are cut off at the limit; record it at a lower level"
