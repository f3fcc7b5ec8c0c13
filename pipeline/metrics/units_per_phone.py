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
        bounds = np.concatenate(([0], np.cumsum(num_frames_N)))
        begins_run_F = np.ones(len(units_F) + 1, dtype=np.bool_)
        np.not_equal(units_F[1:], units_F[:-1], out=begins_run_F[1:-1])
        begins_run_F[bounds] = True
        runs_before = np.cumsum(begins_run_F, dtype=np.int32)[bounds]
        self.num_segments += int(np.count_nonzero(speaks_N & (num_frames_N > 0)))
        self.num_runs += int(np.diff(runs_before)[speaks_N].sum())

    def scores(self) -> dict[str, float]:
        """`units_per_phone`, the mean number of runs in a segment; none if none was counted."""
        if not self.num_segments:
            return {}
        return {"units_per_phone": self.num_runs / self.num_segments}
