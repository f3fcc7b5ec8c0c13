"""How many units a phone becomes: the runs of one unit inside a segment of the alignment."""

import numpy as np
from numpy.typing import NDArray


class UnitsPerPhone:
    """Segments and their runs of one unit, counted over any number of utterances.

    A run that crosses a boundary counts in both segments. Silence does not count, nor does a
    segment so short that no frame's centre lies in it.
    """

    def __init__(self) -> None:
        self.num_segments = 0
        self.num_runs = 0

    def add(
        self,
        speaks_N: NDArray[np.bool_],
        num_frames_N: NDArray[np.int64],
        units_F: NDArray[np.integer],
    ) -> None:
        """Count the frames of utterances, of which each of N spans has `num_frames_N`.

        A span is a whole segment of speech if it speaks, or else silence or no segment at all.

        Raises:
            ValueError: there are not as many units as frames of spans.
        """
        if num_frames_N.sum() != len(units_F):
            raise ValueError(
                f"got spans of {num_frames_N.sum()} frames and {len(units_F)} units: each frame "
                "needs one; were both made on the same frame grid?"
            )
        ends_N = np.cumsum(num_frames_N)
        speaks_N = speaks_N & (num_frames_N > 0)
        begins_run_F = np.empty(len(units_F), dtype=np.bool_)
        np.not_equal(units_F[1:], units_F[:-1], out=begins_run_F[1:])
        begins_run_F[(ends_N - num_frames_N)[num_frames_N > 0]] = True
        self.num_segments += int(speaks_N.sum())
        self.num_runs += int(np.count_nonzero(begins_run_F & np.repeat(speaks_N, num_frames_N)))

    def scores(self) -> dict[str, float]:
        """`units_per_phone`, the mean number of runs in a segment; none if none was counted."""
        if not self.num_segments:
            return {}
        return {"units_per_phone": self.num_runs / self.num_segments}
