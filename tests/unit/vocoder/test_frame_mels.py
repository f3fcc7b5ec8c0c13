"""Log-mel spectra at the frames of SSL models, against a slow float64 oracle, and where they lie."""

import pickle

import numpy as np
import pytest
import torch
from reference.frame_mels import log_mels

from pipeline.audio.frame_grid import SSL_GRID, FrameGrid
from pipeline.vocoder.frame_mels import NUM_MELS, FrameMels

GRIDS = {
    "wavlm": SSL_GRID,
    "w2v-bert": FrameGrid(560, 320, 16000),
    "whisper": FrameGrid(320, 320, 16000, start=-160),
    "pooled": SSL_GRID.pooled(4),
}


@pytest.mark.parametrize("grid", GRIDS.values(), ids=GRIDS)
@pytest.mark.parametrize("num_samples", [2000, 7333])
def test_spectra_are_those_of_the_oracle(grid, num_samples):
    waveform_S = np.random.default_rng(0).normal(size=num_samples).astype(np.float32)
    found_TM = FrameMels(grid)(waveform_S)
    assert found_TM.dtype == np.float32
    assert found_TM.shape == (grid.num_frames(num_samples), NUM_MELS)
    np.testing.assert_allclose(found_TM, log_mels(waveform_S, grid), atol=1e-4)


@pytest.mark.parametrize("grid", GRIDS.values(), ids=GRIDS)
def test_a_click_is_loudest_in_the_frame_that_is_centred_on_it(grid):
    for frame in (0, 3):
        waveform_S = np.zeros(16000, np.float32)
        waveform_S[int(grid.start + grid.receptive_field / 2 + grid.hop * frame)] = 1.0
        assert FrameMels(grid)(waveform_S).mean(1).argmax() == frame


def test_the_level_of_a_recording_does_not_count_and_silence_is_finite():
    waveform_S = np.random.default_rng(0).normal(size=4000).astype(np.float32)
    mels = FrameMels(SSL_GRID)
    np.testing.assert_allclose(mels(waveform_S), mels(0.01 * waveform_S), atol=1e-4)
    assert np.isfinite(mels(np.zeros(4000, np.float32))).all()


def test_it_travels_to_loader_processes():
    waveform_S = np.random.default_rng(0).normal(size=4000).astype(np.float32)
    mels = FrameMels(SSL_GRID)
    copy = pickle.loads(pickle.dumps(mels))  # noqa: S301 - our own bytes
    assert torch.equal(*(torch.from_numpy(each(waveform_S)) for each in (mels, copy)))
