"""How close resynthesised speech is to its recording: spectral envelope and F0.

A vocoder of units keeps the time of its input, so F0 is compared frame by frame, after trimming to the
shorter signal. Spectral envelopes are compared as the field does, along the shortest path of frames.
"""

import math
from dataclasses import dataclass

import numpy as np
import torch
from torchaudio.functional import melscale_fbanks

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

Samples = np.ndarray


@dataclass(frozen=True)
class F0Comparison:
    """`error_cents` is NaN if no frame is voiced in both signals (100 cents are a semitone)."""

    error_cents: float
    voicing_disagreement: float


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
    that are voiced in one signal only, of frames 10 ms apart (`pipeline.audio.pitch`).
    """
    length, hop = min(len(reference), len(made)), round(HOP_SECONDS * sample_rate_hz)
    f0_T = fundamental_hz(reference[:length], sample_rate_hz, hop)
    other_T = fundamental_hz(made[:length], sample_rate_hz, hop)
    voiced_T, other_voiced_T = f0_T > 0, other_T > 0
    both_T = voiced_T & other_voiced_T
    cents = 1200 * np.abs(np.log2(f0_T[both_T] / other_T[both_T]))
    return F0Comparison(
        error_cents=float(cents.mean()) if len(cents) else math.nan,
        voicing_disagreement=float((voiced_T != other_voiced_T).mean()),
    )
