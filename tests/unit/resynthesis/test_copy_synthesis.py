import numpy as np
import torch

from pipeline.metrics.resynthesis import compare_f0, mel_cepstral_distortion_db
from pipeline.resynthesis.copy_synthesis import copy_synthesis

RATE = 16000


def voice(seconds=0.8):
    """Harmonics of a rising F0, as loud at the end as at the start."""
    times = np.arange(round(seconds * RATE)) / RATE
    phase = 2 * np.pi * (120 * times + 30 * times**2)
    return sum(0.3 / k * np.sin(k * phase) for k in range(1, 12)).astype(np.float32)


def test_a_copy_is_close_to_the_recording_and_as_long():
    recording = voice()
    copy = copy_synthesis(recording, RATE)
    assert copy.shape == recording.shape
    assert mel_cepstral_distortion_db(recording, copy, RATE) < 4
    compared = compare_f0(recording, copy, RATE)
    assert compared.rmse_cents < 30
    assert compared.voicing_error < 0.1


def test_a_copy_is_always_the_same_and_moves_no_random_state():
    torch.manual_seed(3)
    first = copy_synthesis(voice(), RATE)
    state = torch.get_rng_state()
    assert np.array_equal(copy_synthesis(voice(), RATE), first)
    assert torch.equal(torch.get_rng_state(), state)


def test_less_than_a_window_is_copied_too():
    assert len(copy_synthesis(voice()[:500], RATE)) == 500
