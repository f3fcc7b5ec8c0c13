"""How close resynthesised speech is to its recording: spectral envelope and F0.

A vocoder of units keeps the time of its input, so F0 is compared frame by frame, after trimming to the
shorter signal. Spectral envelopes are compared as the field does, along the shortest path of frames.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from pipeline.audio.mel import mel_bank, power_spectra
from pipeline.audio.pitch import fundamental_hz
from pipeline.metrics.dtw import shortest_path

NUM_CEPSTRA = 13
NUM_MELS = 80
WINDOW_SECONDS = 0.064
HOP_SECONDS = 0.01
# Relative to the power of a full-scale sine; the least power that counts.
FLOOR_POWER = 1e-8

# Without the cancellation of |a|^2 - 2 a b + |b|^2.
_EXACTLY = "donot_use_mm_for_euclid_dist"

# Of frames 10 ms apart.
MIN_VOICED = 10

Samples = np.ndarray
Floats = npt.NDArray[np.float64]
Tracker = Callable[[Samples, int, int], Floats]


@dataclass(frozen=True)
class F0Comparison:
    """How close one F0 track is to another; NaN where too few frames are voiced in both.

    Attributes:
        correlation: Pearson's, of the logarithms of F0.
        rmse_cents: the root mean square of their differences; 100 cents are a semitone.
        voicing_error: the share of frames that are voiced in one track only.
    """

    correlation: float
    rmse_cents: float
    voicing_error: float


def mel_cepstral_distortion_db(reference: Samples, made: Samples, sample_rate_hz: int) -> float:
    """Mean over pairs of frames of 10 / ln 10 sqrt(2 sum_{m=1..13} (c_m - c'_m)^2), in dB.

    The pairs are those of the path of least total distortion (dynamic time warping). After Kubichek,
    "Mel-cepstral distance measure for objective speech quality assessment" (1993); c_0, the
    loudness, is left out.
    """
    cepstra_TC = mel_cepstra(reference, sample_rate_hz)[:, 1:]
    other_UC = mel_cepstra(made, sample_rate_hz)[:, 1:]
    distances_TU = torch.cdist(cepstra_TC, other_UC, compute_mode=_EXACTLY).numpy()
    mean = distances_TU[shortest_path(distances_TU)].mean()
    return float(10 / math.log(10) * math.sqrt(2) * mean)


def mel_cepstra(samples_S: Samples, sample_rate_hz: int) -> torch.Tensor:
    """T x 14 float64 coefficients c_m, such that sum_m c_m cos(pi m (j + 1/2) / 80) is the natural
    logarithm of the amplitude in mel band j (of 80), approximated by 14 terms.

    Hann windows of 64 ms every 10 ms, all inside the signal; a signal shorter than one window is
    padded with zeros.
    """
    window = round(WINDOW_SECONDS * sample_rate_hz)
    hop = round(HOP_SECONDS * sample_rate_hz)
    power_TJ = (
        power_spectra(samples_S, window, hop) @ mel_bank(window, sample_rate_hz, NUM_MELS).double()
    )
    log_amplitude_TJ = 0.5 * torch.log(power_TJ.clamp(min=FLOOR_POWER))
    centres_J = (torch.arange(NUM_MELS, dtype=torch.float64) + 0.5) / NUM_MELS
    cosines_JC = torch.cos(math.pi * torch.outer(centres_J, torch.arange(NUM_CEPSTRA + 1)))
    cepstra_TC = 2 * log_amplitude_TJ @ cosines_JC / NUM_MELS
    cepstra_TC[:, 0] /= 2
    return cepstra_TC


def compare_f0(
    reference: Samples, made: Samples, sample_rate_hz: int, track: Tracker = fundamental_hz
) -> F0Comparison:
    """Compare the F0 of two signals on frames 10 ms apart, as far as the shorter one reaches.

    `track` gives F0 in Hz, 0 where unvoiced, of some samples at a rate with a hop in samples.
    """
    hop = round(HOP_SECONDS * sample_rate_hz)
    tracks = (track(samples, sample_rate_hz, hop) for samples in (reference, made))
    return compare_tracks(*tracks)


def compare_tracks(f0_T: Floats, other_U: Floats) -> F0Comparison:
    """Compare two tracks of F0 in Hz, 0 where unvoiced, frame by frame up to the shorter one's end.

    A correlation takes `MIN_VOICED` frames that are voiced in both, and F0 that moves in each.
    """
    length = min(len(f0_T), len(other_U))
    f0_T, other_T = f0_T[:length], other_U[:length]
    both_T = (f0_T > 0) & (other_T > 0)
    octaves, others = np.log2(f0_T[both_T]), np.log2(other_T[both_T])
    known = len(octaves) > 0
    moves = len(octaves) >= MIN_VOICED and np.ptp(octaves) > 0 and np.ptp(others) > 0
    return F0Comparison(
        correlation=float(np.corrcoef(octaves, others)[0, 1]) if moves else math.nan,
        rmse_cents=1200 * math.sqrt(np.square(octaves - others).mean()) if known else math.nan,
        voicing_error=float(((f0_T > 0) != (other_T > 0)).mean()) if length else math.nan,
    )
