"""F0 and voicing of speech: autocorrelation and the cheapest path through its peaks.

After Boersma, "Accurate short-term analysis of the fundamental frequency and the harmonics-to-noise
ratio of a sampled sound" (1993), with the costs that Praat has: a frame is voiced where its samples
repeat themselves, and F0 neither leaps nor flickers.
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Samples = npt.NDArray[np.floating]
Floats = npt.NDArray[np.float64]

LOWEST_HZ, HIGHEST_HZ = 60.0, 500.0
WINDOW_SECONDS = 3 / LOWEST_HZ  # three of the longest periods
# How alike a frame and its shifted self must be, and how loud beside the loudest frame.
VOICING_THRESHOLD = 0.45
SILENCE_THRESHOLD = 0.03
# Recordings whose loudest sample stays below hold no speech.
SILENCE = 1e-3
OCTAVE_COST = 0.01  # of an octave below the highest F0
# Of an octave, and of the beginning or the end of a voiced stretch, between frames 10 ms apart.
LEAP_COST = 0.35
CHANGE_COST = 0.14
COST_SECONDS = 0.01

# Peaks are looked for among this many lags a second, or a period of few samples is missed for two.
LAGS_HZ = 32000

_PEAKS = 8  # of a frame, those most like a period
_FRAMES_AT_ONCE = 2000


class _Candidates(NamedTuple):
    """What each of T frames may be: F0, 0 for unvoiced in the first of C columns, and its strength."""

    hz_TC: Floats
    strength_TC: Floats


def fundamental_hz(samples_S: Samples, sample_rate_hz: int, hop: int) -> Floats:
    """F0 of S // hop frames, 0 where unvoiced; frame i is that of the samples [hop i, hop (i + 1)).

    F0 lies from 60 to 500 Hz. What is voiced does not depend on the level, unless all samples stay
    below 0.001. At either end a frame takes its F0 from the nearest 50 ms that the signal has.
    """
    num_frames = len(samples_S) // hop
    if not num_frames:
        return np.zeros(0)
    samples = np.asarray(samples_S, dtype=np.float64)
    samples = samples - samples.mean()
    loudest = float(np.abs(samples).max())
    if loudest < SILENCE:
        return np.zeros(num_frames)
    window = round(WINDOW_SECONDS * sample_rate_hz)
    samples = np.pad(samples, (0, max(0, window - len(samples))))
    all_NW = np.lib.stride_tricks.sliding_window_view(samples, window)
    starts_T = (hop // 2 + hop * np.arange(num_frames) - window // 2).clip(0, len(all_NW) - 1)
    pieces = [
        _candidates(all_NW[starts_T[first : first + _FRAMES_AT_ONCE]], sample_rate_hz, loudest)
        for first in range(0, num_frames, _FRAMES_AT_ONCE)
    ]
    hz, strength = (np.concatenate(parts) for parts in zip(*pieces, strict=True))
    return _best_path(_Candidates(hz, strength), COST_SECONDS * sample_rate_hz / hop)


def _candidates(frames_TW: Floats, sample_rate_hz: int, loudest: float) -> _Candidates:
    """The peaks of each frame's autocorrelation as F0, and being unvoiced."""
    frames_TW = frames_TW - frames_TW.mean(axis=1, keepdims=True)
    finer = int(np.ceil(LAGS_HZ / sample_rate_hz))
    lags_hz = finer * sample_rate_hz
    shortest, longest = int(lags_hz / HIGHEST_HZ), int(np.ceil(lags_hz / LOWEST_HZ))
    alike_TL = _autocorrelation(frames_TW, finer, longest + 1)[:, shortest - 1 :]
    left_TP, middle_TP, right_TP = alike_TL[:, :-2], alike_TL[:, 1:-1], alike_TL[:, 2:]
    peaks_TP = (middle_TP > left_TP) & (middle_TP >= right_TP)
    # The parabola through a peak and its neighbours.
    slope_TP = 0.5 * (right_TP - left_TP)
    curvature_TP = np.where(peaks_TP, 2 * middle_TP - left_TP - right_TP, 1.0)
    height_TP = np.where(peaks_TP, middle_TP + slope_TP**2 / (2 * curvature_TP), 0.0)
    lag_TP = np.arange(shortest, longest + 1) + np.where(peaks_TP, slope_TP / curvature_TP, 0.0)
    hz_TP = (lags_hz / lag_TP).clip(LOWEST_HZ, HIGHEST_HZ)
    strength_TP = np.where(
        peaks_TP, height_TP.clip(max=1.0) - OCTAVE_COST * np.log2(HIGHEST_HZ / hz_TP), -np.inf
    )
    best_TC = np.argpartition(-strength_TP, min(_PEAKS, strength_TP.shape[1] - 1))[:, :_PEAKS]
    third = frames_TW.shape[1] // 3
    loudness_T1 = np.abs(frames_TW[:, third:-third]).max(axis=1, keepdims=True) / loudest
    quiet_T1 = 2 - loudness_T1 * (1 + VOICING_THRESHOLD) / SILENCE_THRESHOLD
    unvoiced_T1 = VOICING_THRESHOLD + quiet_T1.clip(min=0)
    return _Candidates(
        np.hstack([np.zeros_like(unvoiced_T1), np.take_along_axis(hz_TP, best_TC, axis=1)]),
        np.hstack([unvoiced_T1, np.take_along_axis(strength_TP, best_TC, axis=1)]),
    )


def _autocorrelation(frames_TW: Floats, finer: int, longest: int) -> Floats:
    """Of each windowed frame, divided by that of the window: 1 at lag 0.

    Band-limited interpolation gives it at `finer` lags a sample, of which there are 0 to `longest`.
    """
    window = frames_TW.shape[1]
    taper_W = np.hanning(window + 2)[1:-1]
    size = 2 ** int(np.ceil(np.log2(window + longest / finer)))

    def correlate(rows: Floats) -> Floats:
        power = np.square(np.abs(np.fft.rfft(rows, size)))
        products: Floats = np.fft.irfft(power, finer * size)
        return products[..., : longest + 1]

    alike_TL = correlate(frames_TW * taper_W) / correlate(taper_W)
    power_T1 = alike_TL[:, :1]
    return np.divide(alike_TL, power_T1, out=np.zeros_like(alike_TL), where=power_T1 > 0)


def _best_path(candidates: _Candidates, cost_scale: float) -> Floats:
    """F0 of the candidates, one for each frame, whose strengths minus the costs are largest."""
    voiced_TC = candidates.hz_TC > 0
    octaves_TC = np.log2(np.where(voiced_TC, candidates.hz_TC, 1.0))
    total_C = candidates.strength_TC[0]
    origins = []
    for now in range(1, len(octaves_TC)):
        leaps_CC = LEAP_COST * np.abs(octaves_TC[now - 1][:, None] - octaves_TC[now])
        before_C1, after_C = voiced_TC[now - 1][:, None], voiced_TC[now]
        costs_CC = np.where(before_C1 & after_C, leaps_CC, CHANGE_COST * (before_C1 ^ after_C))
        totals_CC = total_C[:, None] - cost_scale * costs_CC
        origins.append(totals_CC.argmax(axis=0))
        total_C = totals_CC.max(axis=0) + candidates.strength_TC[now]
    path = [int(total_C.argmax())]
    for origin_C in reversed(origins):
        path.append(int(origin_C[path[-1]]))
    return candidates.hz_TC[np.arange(len(path)), path[::-1]]
