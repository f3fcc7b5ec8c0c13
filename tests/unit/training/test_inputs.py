import time

import numpy as np
import pytest

from pipeline.training.inputs import Cache, ahead


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


def test_items_are_loaded_ahead_in_order():
    loaded = []

    def load(item):
        loaded.append(item)
        return item * 2

    results = ahead(range(10), load, depth=3)
    assert next(results) == 0
    deadline = time.monotonic() + 5
    while len(loaded) < 4 and time.monotonic() < deadline:
        time.sleep(0.01)
    assert loaded == [0, 1, 2, 3]
    assert list(results) == list(range(2, 20, 2))


def test_an_error_while_loading_reaches_the_reader_in_its_turn():
    def load(item):
        if item == 1:
            raise OSError("gone")
        return item

    results = ahead(range(3), load)
    assert next(results) == 0
    with pytest.raises(OSError, match="gone"):
        next(results)
