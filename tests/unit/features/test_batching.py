from hypothesis import given
from hypothesis import strategies as st

from pipeline.features.batching import length_batches


@given(st.lists(st.integers(1, 50), max_size=40), st.integers(1, 120))
def test_every_index_once_rising_and_within_the_padded_size(lengths, limit):
    batches = length_batches(lengths, limit)
    flat = [index for batch in batches for index in batch]
    assert sorted(flat) == list(range(len(lengths)))
    assert [lengths[i] for i in flat] == sorted(lengths)
    for batch in batches:
        assert len(batch) == 1 or len(batch) * max(lengths[i] for i in batch) <= limit


def test_batches_are_as_full_as_the_order_allows():
    assert length_batches([3, 1, 2, 9], 6) == [[1, 2], [0], [3]]
