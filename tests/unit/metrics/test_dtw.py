import numpy as np
import pytest
from reference.dtw import least_path

from pipeline.metrics.dtw import shortest_path


@pytest.mark.parametrize("shape", [(1, 1), (1, 5), (5, 1), (4, 7), (9, 6), (12, 12)])
def test_the_path_is_as_short_as_the_recursion_finds(shape):
    distances = np.random.default_rng(0).random(shape)
    rows, columns = shortest_path(distances)
    total, length = least_path(distances.tolist())
    assert distances[rows, columns].sum() == pytest.approx(total, rel=1e-12)
    assert len(rows) == length


def test_a_path_goes_from_corner_to_corner_one_step_at_a_time():
    rows, columns = shortest_path(np.random.default_rng(1).random((30, 17)))
    assert (rows[0], columns[0], rows[-1], columns[-1]) == (0, 0, 29, 16)
    steps = set(zip(np.diff(rows).tolist(), np.diff(columns).tolist(), strict=True))
    assert steps <= {(0, 1), (1, 0), (1, 1)}


def test_equal_signals_go_together():
    values = np.arange(6.0)
    rows, columns = shortest_path(np.abs(values[:, None] - values))
    assert rows.tolist() == columns.tolist() == [0, 1, 2, 3, 4, 5]


def test_a_held_frame_is_repeated():
    first, second = np.array([0.0, 5.0, 9.0]), np.array([0.0, 5.0, 5.0, 5.0, 9.0])
    rows, columns = shortest_path(np.abs(first[:, None] - second))
    assert rows.tolist() == [0, 1, 1, 1, 2]
    assert columns.tolist() == [0, 1, 2, 3, 4]
