"""Dynamic time warping: which frames of two signals belong together."""

import numpy as np
from numpy.typing import NDArray

Frames = NDArray[np.intp]


def shortest_path(distances_TU: NDArray[np.float64]) -> tuple[Frames, Frames]:
    """The frames that lie on the path of least total distance, from both starts to both ends.

    A step goes one frame on in the first signal, in the second or in both, and all steps count alike
    (Sakoe and Chiba, "Dynamic programming algorithm optimization for spoken word recognition", 1978,
    without their weights and window). Of equal ways back the diagonal one is taken.
    """
    total_TU = _totals(distances_TU)
    row, column = (size - 1 for size in distances_TU.shape)
    path = [(row, column)]
    while row or column:
        # The totals' first row and column are a border of infinity.
        before = total_TU[row, column], total_TU[row, column + 1], total_TU[row + 1, column]
        step = int(np.argmin(before))
        row, column = row - (step != 2), column - (step != 1)
        path.append((row, column))
    rows_P, columns_P = np.array(path[::-1]).T
    return rows_P, columns_P


def _totals(distances_TU: NDArray[np.float64]) -> NDArray[np.float64]:
    """The least total distance of a path to each pair of frames, behind a border of infinity.

    The pairs whose indices have one sum are computed at once: they depend on the two sums before.
    """
    num_rows, num_columns = distances_TU.shape
    total = np.full((num_rows + 1, num_columns + 1), np.inf)
    total[0, 0] = 0.0
    flat, flat_distances, wide = total.reshape(-1), distances_TU.reshape(-1), num_columns + 1
    for diagonal in range(num_rows + num_columns - 1):
        first = max(0, diagonal - num_columns + 1)
        rows = np.arange(first, min(diagonal, num_rows - 1) + 1)
        here = (rows + 1) * wide + diagonal - rows + 1
        nearest = np.minimum(flat[here - 1], flat[here - wide])
        np.minimum(nearest, flat[here - wide - 1], out=nearest)
        flat[here] = nearest + flat_distances[rows * num_columns + diagonal - rows]
    return total
