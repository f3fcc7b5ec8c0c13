"""The normalised log-mel filterbank of w2v-BERT 2.0, in torch: batched, on any device."""

from typing import Any

import torch
from torch import Tensor, nn

from pipeline.features.ssl import valid

WINDOW, HOP, FFT_SIZE = 400, 160, 512
FULL_SCALE = 2.0**15  # Kaldi's samples are 16-bit integers
PREEMPHASIS = 0.97
LEAST_ENERGY = 1.192092955078125e-07
VARIANCE_FLOOR = 1e-7


class KaldiFbank(nn.Module):
    """The features that transformers' `SeamlessM4TFeatureExtractor` computes before it stacks them.

    Each band has zero mean and unit variance over the frames of its row alone, so no row depends on
    its batch. Spectra are computed in float64, because quiet bands are a small part of them.
    """

    def __init__(self, feature_extractor: Any) -> None:
        super().__init__()
        filters_FM, window_S = feature_extractor.mel_filters, feature_extractor.window
        self.filters_FM = nn.Buffer(torch.from_numpy(filters_FM).double(), persistent=False)
        self.window_S = nn.Buffer(torch.from_numpy(window_S).double(), persistent=False)

    def forward(self, waveforms_BS: Tensor, num_samples_B: Tensor) -> Tensor:
        """Frame t (of B x T x M) reads the samples [160 t, 160 t + 400); there are at least two.

        Whatever lies behind a row's samples is not read; frames that reach there are zero.
        """
        heard_BS = waveforms_BS.masked_fill(~valid(num_samples_B, waveforms_BS.shape[1]), 0.0)
        num_frames_B = torch.div(num_samples_B - WINDOW, HOP, rounding_mode="floor") + 1
        with torch.autocast(heard_BS.device.type, enabled=False):
            logs_BTM = self._logs(heard_BS.double() * FULL_SCALE)
            valid_BT1 = valid(num_frames_B, logs_BTM.shape[1])[..., None]
            return _normalise(logs_BTM, valid_BT1, num_frames_B).float()

    def _logs(self, samples_BS: Tensor) -> Tensor:
        frames_BTS = samples_BS.unfold(1, WINDOW, HOP)
        centred_BTS = frames_BTS - frames_BTS.mean(-1, keepdim=True)
        # Before the first sample of a frame, Kaldi repeats it.
        before_BTS = torch.cat([centred_BTS[..., :1], centred_BTS[..., :-1]], -1)
        windowed_BTS = (centred_BTS - PREEMPHASIS * before_BTS) * self.window_S
        power_BTF = torch.view_as_real(torch.fft.rfft(windowed_BTS, FFT_SIZE)).square().sum(-1)
        logs_BTM: Tensor = (power_BTF @ self.filters_FM).clamp(min=LEAST_ENERGY).log()
        return logs_BTM


def _normalise(logs_BTM: Tensor, valid_BT1: Tensor, num_frames_B: Tensor) -> Tensor:
    count_B11 = num_frames_B[:, None, None]
    mean_B1M = (logs_BTM * valid_BT1).sum(1, keepdim=True) / count_B11
    centred_BTM = (logs_BTM - mean_B1M) * valid_BT1
    variance_B1M = centred_BTM.square().sum(1, keepdim=True) / (count_B11 - 1)
    return centred_BTM * torch.rsqrt(variance_B1M + VARIANCE_FLOOR)
