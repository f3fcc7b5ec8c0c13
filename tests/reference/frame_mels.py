"""Log-mel spectra at the frames of a grid, one window at a time in float64."""

import numpy as np
from torchaudio.functional import melscale_fbanks

NUM_MELS = 80


def log_mels(waveform_S, grid):
    """Sample by sample: a window around each frame's centre, its DFT, the bands, the logarithm."""
    window = max(1024, grid.hop)
    level = np.sqrt(np.mean(np.square(waveform_S.astype(np.float64))))
    heard = {i: 0.1 * float(x) / level for i, x in enumerate(waveform_S)}
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
