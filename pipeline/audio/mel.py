"""Power spectra of speech in frames, and the mel bands that sum them up.

Each measure and loss has windows of its own. Pretrained models bring their own bands
(`pipeline/features/`); where torchaudio has the whole transform, that is used.
"""

import numpy as np
import torch
from torch import Tensor
from torchaudio.functional import melscale_fbanks


def power_spectra(samples_S: np.ndarray, window: int, hop: int) -> Tensor:
    """T x (window // 2 + 1) float64 powers, in which a full-scale sine has about 1 at its peak.

    Hann windows of `window` samples every `hop`, all inside the signal; a signal shorter than one
    window is padded with zeros.
    """
    samples = torch.from_numpy(np.asarray(samples_S, dtype=np.float64))
    samples = torch.nn.functional.pad(samples, (0, max(0, window - len(samples))))
    taper_W = torch.hann_window(window, dtype=torch.float64)
    spectra_TF = torch.fft.rfft(samples.unfold(0, window, hop) * taper_W)
    power_TF: Tensor = (2 * spectra_TF.abs() / taper_W.sum()).square()
    return power_TF


def mel_bank(
    window: int, sample_rate_hz: int, num_mels: int, highest_hz: float | None = None
) -> Tensor:
    """(window // 2 + 1) x num_mels weights of triangular bands, evenly spaced in mel from 0 Hz.

    They reach up to `highest_hz`, or else to half the sample rate. The scale is HTK's, the area of
    bands is not normalised.
    """
    highest_hz = sample_rate_hz / 2 if highest_hz is None else highest_hz
    bank_FM: Tensor = melscale_fbanks(window // 2 + 1, 0.0, highest_hz, num_mels, sample_rate_hz)
    return bank_FM
