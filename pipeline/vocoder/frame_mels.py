"""What is heard around each frame of an SSL model: the log-mel spectrum of the recording there."""

import numpy as np
import torch
from torchaudio.transforms import MelSpectrogram

from pipeline.audio.frame_grid import FrameGrid
from pipeline.audio.level import at_one_level

NUM_MELS = 80
WINDOW_SECONDS = 0.064
FLOOR = 1e-5


class FrameMels:
    """Natural logarithms of mel magnitudes, T x 80, one row for each frame of `grid`.

    The window of frame i, 64 ms or the hop if that is longer, is centred where the frame is. What lies
    before the recording and behind it is silence.
    """

    def __init__(self, grid: FrameGrid) -> None:
        self._grid = grid
        self._window = max(round(WINDOW_SECONDS * grid.sample_rate_hz), grid.hop)
        self._mel = MelSpectrogram(
            grid.sample_rate_hz,
            n_fft=self._window,
            hop_length=grid.hop,
            n_mels=NUM_MELS,
            power=1.0,
            center=False,
        )

    def __call__(self, waveform_S: np.ndarray) -> np.ndarray:
        """float32 T x 80 of a recording at the grid's rate, `grid.num_frames` of them."""
        grid, window = self._grid, self._window
        num_frames = grid.num_frames(len(waveform_S))
        first = grid.start + (grid.receptive_field - window) // 2
        end = first + window + grid.hop * (num_frames - 1)
        # The level is the microphone's, not the speaker's.
        heard_S = at_one_level(waveform_S, grid.sample_rate_hz)[max(first, 0) : end]
        padded_S = np.pad(heard_S, (max(-first, 0), max(end - len(waveform_S), 0)))
        mel_MT = self._mel(torch.from_numpy(np.asarray(padded_S, dtype=np.float32)))
        log_mel_TM: np.ndarray = mel_MT.clamp(min=FLOOR).log().T.contiguous().numpy()
        return log_mel_TM
