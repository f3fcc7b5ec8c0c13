"""Long audio in windows: kept in the saved folder, and the same units for whoever loads it."""

import json

import numpy as np
import pytest
import torch
from support import encode_at_once, save_tiny_ssl

from pipeline.features.encoders.load import load_encoder
from pipeline.features.ssl import pad_waveforms
from pipeline.features.windows import Windowing
from pipeline.quantizer.layer_mix import LayerMix
from pipeline.tokenizer.feature_mixer import FeatureMixer
from pipeline.tokenizer.unit_tokenizer import UnitTokenizer

WINDOWING = Windowing(1.0, 0.25)


@pytest.fixture(scope="module")
def mixer(tmp_path_factory):
    ssl = load_encoder(save_tiny_ssl(tmp_path_factory.mktemp("ssl")))
    mix = LayerMix(2, initial=0, initial_mass=0.5, learned=False)
    return FeatureMixer(ssl, (0, 2), mix, WINDOWING).eval()


def noise(seconds, seed=0):
    samples = np.random.default_rng(seed).normal(0, 0.3, round(16000 * seconds))
    return samples.astype(np.float32)


def test_mixed_features_are_the_mix_of_the_windows(mixer):
    waveforms = [noise(2.7), noise(0.3, 1), noise(1.4, 2)]

    @torch.inference_mode()
    def hidden(batch):
        hidden_LBTD, num_frames_B = mixer.ssl(*pad_waveforms(batch), mixer.layers)
        return [hidden_LBTD[:, b, :n].numpy() for b, n in enumerate(num_frames_B.tolist())]

    expected = encode_at_once(hidden, waveforms, mixer.ssl.grid, WINDOWING, 3.0)
    for found_TD, expected_LTD in zip(mixer.encode(waveforms), expected, strict=True):
        np.testing.assert_allclose(found_TD, expected_LTD.mean(axis=0), atol=1e-4)


def test_a_saved_tokenizer_keeps_its_windows(mixer, tmp_path):
    frames_TD = torch.from_numpy(mixer.encode([noise(2.0, 3)])[0])
    tokenizer = UnitTokenizer(mixer, frames_TD[::14])
    tokenizer.save_pretrained(tmp_path)
    settings = json.loads((tmp_path / "config.json").read_text())
    assert settings["windowing"] == {"max_seconds": 1.0, "overlap_seconds": 0.25}
    loaded = UnitTokenizer.from_pretrained(tmp_path)
    assert loaded.mixer.windowing == WINDOWING
    (expected,), (found,) = tokenizer.encode([noise(3.3)]), loaded.encode([noise(3.3)])
    np.testing.assert_array_equal(found, expected)
    assert len(found) == mixer.ssl.grid.num_frames(round(3.3 * 16000))


def test_a_folder_of_old_has_the_usual_windows(mixer, tmp_path):
    mixer.save_pretrained(tmp_path)
    settings = json.loads((tmp_path / "config.json").read_text())
    del settings["windowing"]
    (tmp_path / "config.json").write_text(json.dumps(settings))
    assert FeatureMixer.from_pretrained(tmp_path).windowing == Windowing()
