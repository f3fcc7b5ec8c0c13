"""Mel-frequency cepstra on the frame grid of a self-supervised model."""

import torch
import torchaudio
from torch import Tensor, nn

from pipeline.audio.frame_grid import FrameGrid

MEL_BANDS = 40
DELTA_FRAMES = 5
# Differences have half the weight of the cepstra: clusters of such frames agree best with phones
# (PNMI of 100 clusters on synthetic speech: 0.44 at weight 1, 0.48 at 0.5).
DELTA_WEIGHT = 0.5


class Mfcc(nn.Module):
    """MFCCs with first and second differences; frame i reads the samples that the grid says.

    Each coefficient is normalised to zero mean and unit variance over the utterance, which removes
    much of the voice and the channel. As in HuBERT (Hsu et al., 2021), the first pretraining labels
    are clusters of these frames.
    """

    def __init__(self, grid: FrameGrid, num_cepstra: int = 13) -> None:
        super().__init__()
        self._grid = grid
        self._cepstra = torchaudio.transforms.MFCC(
            grid.sample_rate_hz,
            num_cepstra,
            log_mels=True,
            melkwargs={
                "n_fft": grid.receptive_field,
                "hop_length": grid.hop,
                "center": False,
                "n_mels": MEL_BANDS,
            },
        )

    def forward(self, waveform_S: Tensor) -> Tensor:
        """Frames (T x 3 num_cepstra, float32) of one waveform of at least one frame."""
        cepstra_CT = self._cepstra(waveform_S)
        if cepstra_CT.shape[1] != self._grid.num_frames(len(waveform_S)):
            raise AssertionError("MFCC frames do not lie on the model's grid")
        velocity_CT = torchaudio.functional.compute_deltas(cepstra_CT, DELTA_FRAMES)
        acceleration_CT = torchaudio.functional.compute_deltas(velocity_CT, DELTA_FRAMES)
        frames_CT = torch.cat([cepstra_CT, velocity_CT, acceleration_CT])
        centred_CT = frames_CT - frames_CT.mean(1, keepdim=True)
        spread_C1 = centred_CT.square().mean(1, keepdim=True).sqrt()
        weights_C1 = torch.ones_like(spread_C1)
        weights_C1[len(cepstra_CT) :] = DELTA_WEIGHT
        return (weights_C1 * centred_CT / spread_C1.clamp_min(1e-5)).T
