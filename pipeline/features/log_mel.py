"""Whisper's log-mel spectrogram, in torch: batched, differentiable, on any device."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from pipeline.features.ssl import valid

LEAST_POWER = 1e-10
RANGE_LOG10 = 8.0  # what is quieter than the utterance's loudest value by more is raised to this


class LogMel(nn.Module):
    """The spectrogram that transformers' `WhisperFeatureExtractor` computes.

    Its largest value, from which the floor is counted, is that of each row alone, so no row depends
    on its batch.
    """

    def __init__(self, feature_extractor: Any) -> None:
        super().__init__()
        self.window_size, self.hop = feature_extractor.n_fft, feature_extractor.hop_length
        filters_FM = torch.from_numpy(feature_extractor.mel_filters).float()
        self.filters_FM = nn.Buffer(filters_FM, persistent=False)
        self.window_S = nn.Buffer(torch.hann_window(self.window_size), persistent=False)

    def forward(self, waveforms_BS: Tensor, num_samples_B: Tensor, size: int) -> Tensor:
        """Frame m (of B x M x size / hop) is centred on sample hop * m.

        Args:
            waveforms_BS: whatever lies behind a row's samples is not read.
            num_samples_B: valid samples of each row.
            size: to how many samples each row is filled up with zeros, or cut.
        """
        heard_BS = waveforms_BS.masked_fill(~valid(num_samples_B, waveforms_BS.shape[1]), 0.0)
        filled_BS = functional.pad(heard_BS, (0, size - heard_BS.shape[1]))
        with torch.autocast(filled_BS.device.type, enabled=False):
            spectrum_BFT = torch.stft(
                filled_BS, self.window_size, self.hop, window=self.window_S, return_complex=True
            )[..., :-1]
            power_BFT = torch.view_as_real(spectrum_BFT).square().sum(-1)
            log_BMT = (self.filters_FM.T @ power_BFT).clamp(min=LEAST_POWER).log10()
            floor_B11 = log_BMT.amax((1, 2), keepdim=True) - RANGE_LOG10
            mels_BMT: Tensor = (torch.maximum(log_BMT, floor_B11) + 4.0) / 4.0
            return mels_BMT
