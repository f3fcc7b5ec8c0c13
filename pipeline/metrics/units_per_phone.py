"""How many units a phone becomes: the runs of one unit inside a segment of the alignment."""

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import ArrayLike

from pipeline.audio.utterance import SILENCE, Segment


class UnitsPerPhone:
    """Segments and their runs of one unit, counted over any number of utterances.

    A run that crosses a boundary counts in both segments. Silence does not count, nor does a
    segment so short that no frame's centre lies in it.
    """

    def __init__(self) -> None:
        self.num_segments = 0
        self.num_runs = 0

    def add(
        self, segments: Sequence[Segment | None], labels: Sequence[str], units: ArrayLike
    ) -> None:
        """Count one utterance: of each frame the segment that it lies in, its label, its unit.

        Raises:
            ValueError: there are not as many of each.
        """
        units_N = np.asarray(units, dtype=np.int64)
        if not len(segments) == len(labels) == len(units_N):
            raise ValueError(
                f"got {len(segments)} segments, {len(labels)} labels and {len(units_N)} units: "
                "each frame needs one of each; were all made on the same frame grid?"
            )
        frames = zip(segments, labels, strict=True)
        speaks_N = np.array([s is not None and label != SILENCE for s, label in frames], dtype=bool)
        pairs = pairwise((None, *segments))
        enters_N = np.array([segment is not last for last, segment in pairs], dtype=bool)
        changes_N = np.diff(units_N, prepend=-1) != 0
        self.num_segments += int((speaks_N & enters_N).sum())
        self.num_runs += int((speaks_N & (enters_N | changes_N)).sum())

    def scores(self) -> dict[str, float]:
        """`units_per_phone`, the mean number of runs in a segment; none if none was counted."""
        if not self.num_segments:
            return {}
        return {"units_per_phone": self.num_runs / self.num_segments}
