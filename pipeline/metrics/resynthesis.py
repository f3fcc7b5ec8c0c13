"""How close resynthesised speech is to its recording: spectral envelope and F0.

Both signals have the same time axis (a vocoder of units keeps the time of its input), so frames are
compared by index, after trimming to the shorter signal.
"""

import math
from dataclasses import dataclass

import numpy as np
import torch
from torchaudio.functional import melscale_fbanks

NUM_CEPSTRA = 13
NUM_MELS = 80
WINDOW_SECONDS = 0.064
HOP_SECONDS = 0.01
# Relative to the power of a full-scale sine; the least power that counts.
FLOOR_POWER = 1e-8

F0_RANGE_HZ = (60.0, 400.0)
F0_WINDOW_SECONDS = 0.025
# Harmonicity threshold of YIN: below it the dip of the normalised difference counts as a period.
APERIODICITY_THRESHOLD = 0.15
SILENCE_RMS = 1e-3

Samples = np.ndarray


@dataclass(frozen=True)
class F0Comparison:
    """`error_cents` is NaN if no frame is voiced in both signals (100 cents are a semitone)."""

    error_cents: float
    voicing_disagreement: float


def mel_cepstral_distortion_db(reference: Samples, made: Samples, sample_rate_hz: int) -> float:
    """Mean over frames of 10 / ln 10 sqrt(2 sum_{m=1..13} (c_m - c'_m)^2), in dB.

    After Kubichek, "Mel-cepstral distance measure for objective speech quality assessment"
    (1993); c_0, the loudness, is left out.
    """
    length = min(len(reference), len(made))
    cepstra_TC = mel_cepstra(reference[:length], sample_rate_hz)
    other_TC = mel_cepstra(made[:length], sample_rate_hz)
    squares_T = (cepstra_TC - other_TC)[:, 1:].square().sum(dim=1)
    return float((10 / math.log(10) * (2 * squares_T).sqrt()).mean())


def mel_cepstra(samples_S: Samples, sample_rate_hz: int) -> torch.Tensor:
    """T x 14 float64 coefficients c_m, such that sum_m c_m cos(pi m (j + 1/2) / 80) is the natural
    logarithm of the amplitude in mel band j (of 80), approximated by 14 terms.

    Hann windows of 64 ms every 10 ms, all inside the signal; a signal shorter than one window is
    padded with zeros.
    """
    window = round(WINDOW_SECONDS * sample_rate_hz)
    hop = round(HOP_SECONDS * sample_rate_hz)
    samples = torch.from_numpy(np.asarray(samples_S, dtype=np.float64))
    samples = torch.nn.functional.pad(samples, (0, max(0, window - len(samples))))
    taper = torch.hann_window(window, dtype=torch.float64)
    spectrum_TF = torch.fft.rfft(samples.unfold(0, window, hop) * taper)
    power_TF = (2 * spectrum_TF.abs() / taper.sum()).square()
    bank_FJ = melscale_fbanks(
        window // 2 + 1, 0.0, sample_rate_hz / 2, NUM_MELS, sample_rate_hz
    ).double()
    log_amplitude_TJ = 0.5 * torch.log((power_TF @ bank_FJ).clamp(min=FLOOR_POWER))
    centres_J = (torch.arange(NUM_MELS, dtype=torch.float64) + 0.5) / NUM_MELS
    cosines_JC = torch.cos(math.pi * torch.outer(centres_J, torch.arange(NUM_CEPSTRA + 1)))
    cepstra_TC = 2 * log_amplitude_TJ @ cosines_JC / NUM_MELS
    cepstra_TC[:, 0] /= 2
    return cepstra_TC


def compare_f0(reference: Samples, made: Samples, sample_rate_hz: int) -> F0Comparison:
    """Mean absolute F0 difference in cents over the frames voiced in both, and the share of frames
    that are voiced in one signal only.
    """
    length = min(len(reference), len(made))
    f0_T = fundamental_hz(reference[:length], sample_rate_hz)
    other_T = fundamental_hz(made[:length], sample_rate_hz)
    voiced_T, other_voiced_T = f0_T > 0, other_T > 0
    both_T = voiced_T & other_voiced_T
    cents = 1200 * np.abs(np.log2(f0_T[both_T] / other_T[both_T]))
    return F0Comparison(
        error_cents=float(cents.mean()) if len(cents) else math.nan,
        voicing_disagreement=float((voiced_T != other_voiced_T).mean()),
    )


def fundamental_hz(samples_S: Samples, sample_rate_hz: int) -> np.ndarray:
    """F0 of frames 10 ms apart by YIN, float64, 0 where unvoiced.

    After de Cheveigné and Kawahara (2002): the cumulative mean normalised difference, the first
    dip below the threshold, a parabola through it; frames below -60 dB are unvoiced.
    """
    shortest, longest = (round(sample_rate_hz / hz) for hz in reversed(F0_RANGE_HZ))
    window = round(F0_WINDOW_SECONDS * sample_rate_hz)
    samples = np.asarray(samples_S, dtype=np.float64)
    # One lag more, so that the longest period has a neighbour on either side.
    span = window + longest + 1
    samples = np.pad(samples, (0, max(0, span - len(samples))))
    hop = round(HOP_SECONDS * sample_rate_hz)
    frames_TS = np.lib.stride_tricks.sliding_window_view(samples, span)[::hop]
    normalised_TL = _normalised_difference(frames_TS, window, longest + 1)
    f0_T = np.array([_first_dip_hz(row, shortest, sample_rate_hz) for row in normalised_TL])
    loud_T = np.sqrt(np.square(frames_TS[:, :window]).mean(axis=1)) >= SILENCE_RMS
    return np.where(loud_T, f0_T, 0.0)


def _normalised_difference(frames_TS: np.ndarray, window: int, max_lag: int) -> np.ndarray:
    """d'(lag) of equation 8, T x (max_lag + 1), 1 at lag 0."""
    head_TW = frames_TS[:, :window]
    difference_TL = np.stack(
        [
            np.square(head_TW - frames_TS[:, lag : lag + window]).sum(axis=1)
            for lag in range(1, max_lag + 1)
        ],
        axis=1,
    )
    lags_L = np.arange(1, max_lag + 1)
    mean_TL = np.cumsum(difference_TL, axis=1) / lags_L
    normalised_TL = np.divide(
        difference_TL, mean_TL, out=np.ones_like(difference_TL), where=mean_TL > 0
    )
    return np.pad(normalised_TL, ((0, 0), (1, 0)), constant_values=1.0)


def _first_dip_hz(normalised_L: np.ndarray, shortest: int, sample_rate_hz: int) -> float:
    """F0 at the bottom of the first dip below the threshold, 0 without one."""
    inner_L = normalised_L[shortest:-1]
    below_L = np.flatnonzero(inner_L < APERIODICITY_THRESHOLD)
    if not len(below_L):
        return 0.0
    lag = shortest + int(below_L[0])
    while lag + 2 < len(normalised_L) and normalised_L[lag + 1] < normalised_L[lag]:
        lag += 1
    left, bottom, right = normalised_L[lag - 1 : lag + 2]
    curvature = left - 2 * bottom + right
    offset = 0.5 * (left - right) / curvature if curvature > 0 else 0.0
    return sample_rate_hz / (lag + float(np.clip(offset, -1, 1)))
