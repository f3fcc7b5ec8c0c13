import numpy as np
import pytest
import torch
from reference.soft_assignment import probabilities
from support import save_tiny_tokenizer

from pipeline.clustering.assignment import FramesError
from pipeline.features.windows import Windowing
from pipeline.tokenizer.soft_tokenizer import SoftTokenizer
from pipeline.tokenizer.unit_tokenizer import UnitTokenizer

WINDOWING = Windowing(1.0, 0.25)


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    folder = save_tiny_tokenizer(tmp_path_factory.mktemp("soft"))
    tokenizer = UnitTokenizer.from_pretrained(folder / "tokenizer")
    tokenizer.mixer.windowing = WINDOWING
    return tokenizer


def noise(seconds, seed=0):
    samples = np.random.default_rng(seed).normal(0, 0.3, round(16000 * seconds))
    return samples.astype(np.float32)


def test_mixtures_by_formula_in_windows_too(tokenizer):
    waveforms = [noise(2.3), noise(0.3, 1)]
    found = SoftTokenizer(tokenizer, 0.5).encode(waveforms)
    centroids = tokenizer.centroids_KD.tolist()
    for mixtures_TK, frames_TD in zip(found, tokenizer.mixer.encode(waveforms), strict=True):
        wanted_TK = [
            probabilities(frame, centroids, 1 / 0.5, "euclidean") for frame in frames_TD.tolist()
        ]
        assert mixtures_TK.dtype == np.float32
        np.testing.assert_allclose(mixtures_TK, wanted_TK, rtol=1e-3, atol=1e-5)


def test_the_largest_part_is_the_unit_and_alone_where_tau_is_small(tokenizer):
    waveforms = [noise(1.4, 2), noise(0.5, 3)]
    units = tokenizer.encode(waveforms)
    for tau in (1e-4, 3.0):
        for mixtures_TK, units_T in zip(
            SoftTokenizer(tokenizer, tau).encode(waveforms), units, strict=True
        ):
            np.testing.assert_array_equal(mixtures_TK.argmax(1), units_T)
            np.testing.assert_allclose(mixtures_TK.sum(1), 1, atol=1e-5)
            assert (mixtures_TK.max(1) > 0.99).mean() > 0.95 or tau > 1


def test_frames_that_are_not_finite_are_refused(tokenizer, monkeypatch):
    def broken(hidden_LBTD):
        return torch.full_like(hidden_LBTD[0], torch.nan)

    monkeypatch.setattr(tokenizer.mixer.mix, "forward", broken)
    for encode in (SoftTokenizer(tokenizer, 1.0).encode, tokenizer.encode):
        with pytest.raises(FramesError, match="4 of 4 frames"):
            encode([torch.zeros(1360) + 0.1])
