"""The filterbank equals transformers' own, whatever the batch."""

import numpy as np
import pytest
import soundfile
import torch
from transformers import SeamlessM4TFeatureExtractor

from pipeline.features.kaldi_fbank import KaldiFbank
from pipeline.features.ssl import pad_waveforms


def sounds():
    """Of several levels and lengths, with an offset; 560 samples are the fewest: two frames."""
    generator = np.random.default_rng(0)
    levels = {16001: 0.3, 560: 0.1, 8000: 1e-3, 720: 0.2}
    return [
        (0.05 + level * generator.standard_normal(length)).astype(np.float32)
        for length, level in levels.items()
    ]


def assert_equal_to_the_feature_extractor(waveforms):
    extractor = SeamlessM4TFeatureExtractor()
    found_BTM = KaldiFbank(extractor)(*pad_waveforms(waveforms))
    for row, waveform in enumerate(waveforms):
        made = extractor(waveform, sampling_rate=16000, return_tensors="pt", pad_to_multiple_of=1)
        expected_TM = made.input_features[0].unflatten(1, (2, 80)).flatten(0, 1)
        torch.testing.assert_close(
            found_BTM[row, : len(expected_TM)], expected_TM, atol=1e-4, rtol=0
        )


def test_features_equal_those_of_the_feature_extractor():
    assert_equal_to_the_feature_extractor(sounds())


def test_features_of_real_speech_equal_those_of_the_feature_extractor(shared_data):
    files = sorted((shared_data / "an4" / "audio").glob("*.flac"))[::200]
    assert_equal_to_the_feature_extractor(
        [soundfile.read(file, dtype="float32")[0] for file in files]
    )


def test_a_row_depends_neither_on_its_batch_nor_on_what_lies_behind_it():
    fbank, (long, short, *_) = KaldiFbank(SeamlessM4TFeatureExtractor()), sounds()
    waveforms_BS, num_samples_B = pad_waveforms([long, short])
    waveforms_BS[1, len(short) :] = torch.nan
    together = fbank(waveforms_BS, num_samples_B)
    torch.testing.assert_close(together[1:, :2], fbank(*pad_waveforms([short])))
    assert not together[1, 2:].any()


def test_each_band_has_zero_mean_and_unit_variance():
    features_TM = KaldiFbank(SeamlessM4TFeatureExtractor())(*pad_waveforms(sounds()[:1]))[0]
    assert features_TM.mean(0).abs().max() < 1e-5
    assert features_TM.var(0).tolist() == pytest.approx([1.0] * 80, abs=1e-4)


def test_autocast_does_not_narrow_it():
    fbank, batch = KaldiFbank(SeamlessM4TFeatureExtractor()), pad_waveforms(sounds())
    with torch.autocast("cpu", torch.bfloat16):
        narrow = fbank(*batch)
    assert torch.equal(narrow, fbank(*batch))


def test_digital_silence_stays_finite():
    silence = pad_waveforms([np.zeros(4000, np.float32)])
    features_BTM = KaldiFbank(SeamlessM4TFeatureExtractor())(*silence)
    assert features_BTM.abs().max() < 1e-6
