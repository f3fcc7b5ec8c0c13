import numpy as np
import torch

from pipeline.training.inputs import Cache, Inputs


def test_cache_forgets_the_least_recently_used():
    cache = Cache(max_bytes=3 * 8)
    for key in "abc":
        cache.put(key, np.zeros(1))
    assert cache.get("a") is not None
    cache.put("d", np.zeros(1))
    assert cache.get("b") is None
    assert all(cache.get(key) is not None for key in "acd")


def test_cache_keeps_one_array_that_is_too_large_for_it():
    cache = Cache(max_bytes=1)
    cache.put("a", np.zeros(10))
    assert cache.get("a") is not None


def test_a_batch_moves_as_a_whole():
    inputs = Inputs(torch.tensor([3]), [[1]], waveforms_BS=torch.zeros(1, 3), positions=(4,))
    moved = inputs.to(torch.device("meta"))
    assert moved.lengths_B.device.type == moved.waveforms_BS.device.type == "meta"
    assert moved.hidden_LBTD is None
    assert (moved.targets, moved.positions) == ([[1]], (4,))
