"""One level for all speech: recordings of one corpus can differ by 20 dB and more."""

import numpy as np
import numpy.typing as npt

# The root mean square of active speech is brought to -26 dB of full scale, as ITU-T P.56 and the
# recommendations around it have it.
ACTIVE_RMS = 10 ** (-26 / 20)
# A block is active if it is at most 30 dB below the loudest twentieth.
ACTIVE_SHARE_OF_POWER = 1e-3
BLOCK_SECONDS = 0.02

Samples = npt.NDArray[np.float32]


def at_one_level(samples_S: Samples, sample_rate_hz: int) -> Samples:
    """The samples, scaled so that their active speech has the level of all others'.

    It is scaled less where a sample would exceed full scale, and digital silence stays as it is.
    """
    power_R = block_powers(samples_S, sample_rate_hz)
    active_R = power_R[active(power_R)]
    peak = float(np.abs(samples_S).max(initial=0.0))
    if not len(active_R) or not peak:
        return samples_S
    gain = min(ACTIVE_RMS / float(np.sqrt(active_R.mean())), 1 / peak)
    return samples_S * np.float32(gain)


def block_powers(samples_S: Samples, sample_rate_hz: int) -> npt.NDArray[np.float64]:
    """The mean square of each block of 20 ms; the last may be shorter."""
    size = max(1, round(BLOCK_SECONDS * sample_rate_hz))
    if not len(samples_S):
        return np.zeros(0)
    starts = np.arange(0, len(samples_S), size)
    sums_R = np.add.reduceat(np.square(samples_S, dtype=np.float64), starts)
    return sums_R / np.diff(starts, append=len(samples_S))


def active(power_R: npt.NDArray[np.float64]) -> npt.NDArray[np.bool_]:
    """Which blocks hold speech, by their power."""
    if not len(power_R):
        return np.zeros(0, bool)
    loud = float(np.quantile(power_R, 0.95))
    return (power_R > 0) & (power_R >= ACTIVE_SHARE_OF_POWER * loud)
