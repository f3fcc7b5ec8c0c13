"""Speech from the mel spectrogram of a recording: what a vocoder could reach that lost no more."""

import numpy as np
import torch
from torchaudio.transforms import GriffinLim, InverseMelScale, MelSpectrogram

FFT_SIZE, HOP, NUM_MELS = 1024, 256, 80
ITERATIONS = 32


def copy_synthesis(samples_S: np.ndarray, sample_rate_hz: int) -> np.ndarray:
    """The samples again, as many, from magnitudes in 80 mel bands of windows of 1,024 every 256.

    The magnitudes of frequencies are the least-squares solution, and phases come from 32 iterations
    of fast Griffin-Lim (Perraudin et al., 2013), begun with random ones that are always the same.
    """
    samples: torch.Tensor = torch.from_numpy(np.asarray(samples_S, np.float32))
    samples = torch.nn.functional.pad(samples, (0, max(0, FFT_SIZE - len(samples))))
    spectrum = {"n_fft": FFT_SIZE, "hop_length": HOP, "power": 1.0}
    mels_MT = MelSpectrogram(sample_rate_hz, n_mels=NUM_MELS, **spectrum)(samples)
    magnitudes_FT = InverseMelScale(FFT_SIZE // 2 + 1, NUM_MELS, sample_rate_hz)(mels_MT)
    with torch.random.fork_rng(devices=()):
        torch.manual_seed(0)
        made: torch.Tensor = GriffinLim(n_iter=ITERATIONS, length=len(samples), **spectrum)(
            magnitudes_FT
        )
    return made[: len(samples_S)].numpy()
