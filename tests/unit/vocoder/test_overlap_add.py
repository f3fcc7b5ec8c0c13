import numpy as np
import pytest
import torch

from pipeline.vocoder.overlap_add import OverlapAdd


def spectra(waveform_S, window_W, hop):
    """The spectrum of each block of `hop` samples, windowed around the middle of the block."""
    margin = (len(window_W) - hop) // 2
    padded_S = np.pad(waveform_S, margin)
    frames = [
        padded_S[first : first + len(window_W)] * window_W
        for first in range(0, len(waveform_S), hop)
    ]
    return np.fft.rfft(frames)


def layer(overlap, hop):
    return OverlapAdd(overlap * hop, hop).double()


@pytest.mark.parametrize(("overlap", "hop"), [(4, 20), (3, 20), (2, 20), (4, 21), (3, 21), (2, 1)])
@pytest.mark.parametrize("num_frames", [1, 2, 9])
def test_windowed_blocks_become_the_waveform_again(overlap, hop, num_frames):
    """To the sample: the analysis takes windows around [hop i, hop (i + 1)), and nothing else."""
    sums = layer(overlap, hop)
    random = np.random.default_rng(0)
    waveform_S = random.standard_normal(hop * num_frames)
    assert (sums.window_length - hop) % 2 == 0
    spectrum_TF = spectra(waveform_S, sums.window_W.numpy(), hop)
    made_BS = sums(torch.from_numpy(spectrum_TF)[None], torch.ones(1, num_frames, dtype=bool))
    assert made_BS.shape == (1, hop * num_frames)
    assert np.abs(made_BS[0].numpy() - waveform_S).max() < 1e-10


def test_frames_outside_a_row_are_left_out():
    sums, random = layer(4, 20), np.random.default_rng(0)
    waveform_S = random.standard_normal(20 * 5)
    spectrum_TF = spectra(waveform_S, sums.window_W.numpy(), 20)
    padded_TF = np.concatenate([spectrum_TF, random.standard_normal((3, 41))])
    made_BS = sums(torch.from_numpy(padded_TF)[None], torch.arange(8)[None] < 5)
    assert np.abs(made_BS[0, :100].numpy() - waveform_S).max() < 1e-10
    assert torch.isfinite(made_BS).all()


def test_bins_that_are_missing_are_zero():
    sums = layer(4, 20)
    spectrum_TF = spectra(np.ones(100), sums.window_W.numpy(), 20)
    whole = np.where(np.arange(41) < 7, spectrum_TF, 0)
    made = [
        sums(torch.from_numpy(each)[None], torch.ones(1, 5, dtype=bool))
        for each in (spectrum_TF[:, :7], whole)
    ]
    assert torch.allclose(*made)
