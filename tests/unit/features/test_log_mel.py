"""The spectrogram equals transformers' own, whatever the batch."""

import numpy as np
import pytest
import soundfile
import torch
from transformers import WhisperFeatureExtractor

from pipeline.features.log_mel import LogMel
from pipeline.features.ssl import pad_waveforms

WINDOW = 30 * 16000


def sounds():
    """Of several levels and lengths: the last is cut, one is silence, one hardly a frame."""
    generator = np.random.default_rng(0)
    lengths, levels = (16001, 160, 48000, 4000, WINDOW + 100), (0.3, 0.1, 1e-3, 0.0, 0.05)
    return [
        (level * generator.standard_normal(length)).astype(np.float32)
        for length, level in zip(lengths, levels, strict=True)
    ]


@pytest.mark.parametrize("num_bands", [80, 128])
def test_spectrograms_equal_those_of_the_feature_extractor(num_bands):
    extractor = WhisperFeatureExtractor(feature_size=num_bands)
    expected = extractor(sounds(), sampling_rate=16000, return_tensors="pt").input_features
    found_BMT = LogMel(extractor)(*pad_waveforms(sounds()), WINDOW)
    assert found_BMT.shape == (5, num_bands, 3000)
    torch.testing.assert_close(found_BMT, expected, atol=1e-4, rtol=0)


def test_spectrograms_of_real_speech_equal_those_of_the_feature_extractor(shared_data):
    files = sorted((shared_data / "an4" / "audio").glob("*.flac"))[::200]
    speech = [soundfile.read(file, dtype="float32")[0] for file in files]
    extractor = WhisperFeatureExtractor()
    expected = extractor(speech, sampling_rate=16000, return_tensors="pt").input_features
    found_BMT = LogMel(extractor)(*pad_waveforms(speech), WINDOW)
    torch.testing.assert_close(found_BMT, expected, atol=1e-4, rtol=0)


def test_a_row_depends_neither_on_its_batch_nor_on_what_lies_behind_it():
    log_mel, (loud, _, quiet, *_) = LogMel(WhisperFeatureExtractor()), sounds()
    waveforms_BS, num_samples_B = pad_waveforms([loud, quiet])
    waveforms_BS[0, len(loud) :] = torch.nan
    alone = log_mel(*pad_waveforms([loud]), 64000)
    torch.testing.assert_close(log_mel(waveforms_BS, num_samples_B, 64000)[:1], alone)


def test_values_stay_within_eight_decades_of_the_loudest():
    mels_BMT = LogMel(WhisperFeatureExtractor())(*pad_waveforms(sounds()), WINDOW)
    ranges_B = mels_BMT.amax((1, 2)) - mels_BMT.amin((1, 2))
    assert ranges_B.max() == pytest.approx(2.0)
    assert ranges_B[3] == 0
    assert mels_BMT[3].unique().tolist() == [-1.5]  # (log10(1e-10) + 4) / 4


def test_gradients_reach_the_samples_that_are_heard():
    waveforms_BS, num_samples_B = pad_waveforms(sounds()[:3])
    waveforms_BS.requires_grad_()
    LogMel(WhisperFeatureExtractor())(waveforms_BS, num_samples_B, 64000).square().sum().backward()
    gradient_BS = waveforms_BS.grad
    assert gradient_BS.isfinite().all()
    assert (gradient_BS[0, :16001] != 0).float().mean() > 0.99
    assert not gradient_BS[0, 16001:].any()
