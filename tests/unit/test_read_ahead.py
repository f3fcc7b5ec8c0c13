"""Loading ahead of use, in threads: the same results in the same order."""

import time
from threading import Barrier

import pytest

from pipeline.read_ahead import ahead

PATIENCE_SECONDS = 60


def test_items_are_loaded_ahead_in_order():
    loaded = []

    def load(item):
        loaded.append(item)
        return item * 2

    results = ahead(range(10), load, depth=3)
    assert next(results) == 0
    deadline = time.monotonic() + PATIENCE_SECONDS
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


def test_threads_load_at_the_same_time_and_results_keep_their_order():
    """No load ends before three have begun."""
    together = Barrier(3, timeout=PATIENCE_SECONDS)

    def load(item):
        together.wait()
        time.sleep(0.02 * (2 - item % 3))  # of three, the first ends last
        return item

    assert list(ahead(range(9), load, threads=3)) == list(range(9))
