"""ABX errors: how often a phone's units are nearer to another phone's than to its own kind's.

For phones a and x of one kind and b of another, an error is d(x, b) < d(x, a), half of one a tie;
d is the share of unequal units along the best alignment in time (DTW). Schatz et al., "Evaluating
speech features with the minimal-pair ABX task", 2013. The package fastabx does all of it.
"""

from collections.abc import Sequence
from itertools import groupby, pairwise

import numpy as np

from pipeline.audio.utterance import SILENCE, Segment

# How ZeroSpeech keeps triples few: phones of each role in a cell, and speakers that x may have.
MOST_PHONES, MOST_SPEAKERS = 10, 5

NEIGHBOURS = ["previous", "next"]
# The score's name, what a, b and x share, and what x does not share with the others.
KINDS = (
    ("abx_within_speaker", [*NEIGHBOURS, "speaker"], None),
    ("abx_across_speakers", NEIGHBOURS, ["speaker"]),
    ("abx_within_speaker_any_context", ["speaker"], None),
    ("abx_across_speakers_any_context", None, ["speaker"]),
)


class AbxPhones:
    """Phones with their neighbours, speakers and units, over any number of utterances.

    Silence is a neighbour and no phone, and so is what lies before and behind the labels. A segment
    so short that no frame's centre lies in it is neither.
    """

    def __init__(self) -> None:
        self.labels: dict[str, list[str]] = {
            name: [] for name in ("phone", "previous", "next", "speaker")
        }
        self.units: list[np.ndarray] = []

    def add(
        self,
        speaker: str,
        segments: Sequence[Segment | None],
        labels: Sequence[str],
        units_T: np.ndarray,
    ) -> None:
        """Add an utterance: of each frame the segment that it lies in, its label, its unit."""
        frames = groupby(range(len(segments)), key=lambda frame: id(segments[frame]))
        spans = [list(span) for _, span in frames]
        names = [SILENCE, *(labels[span[0]] for span in spans), SILENCE]
        for (before, phone), (_, after), span in zip(
            pairwise(names[:-1]), pairwise(names[1:]), spans, strict=True
        ):
            if phone == SILENCE or segments[span[0]] is None:
                continue
            row = {"phone": phone, "previous": before, "next": after, "speaker": speaker}
            for name, value in row.items():
                self.labels[name].append(value)
            self.units.append(np.asarray(units_T[span[0] : span[-1] + 1]))

    def errors(self) -> dict[str, float]:
        """The error of each kind in `KINDS`, 0.5 being chance; none where no triple fits.

        The names without "any_context" compare phones between equal neighbours.
        """
        found = {name: self._error(by, across) for name, by, across in KINDS} if self.units else {}
        return {name: error for name, error in found.items() if error is not None}

    def _error(self, by: list[str] | None, across: list[str] | None) -> float | None:
        import polars as pl
        import torch
        from fastabx import Dataset, EmptyTaskError, InMemoryAccessor, Score, Subsampler, Task

        ends = np.cumsum([len(units_T) for units_T in self.units]).tolist()
        spans = dict(enumerate(pairwise([0, *ends])))
        units_N1 = torch.from_numpy(np.concatenate(self.units).astype(np.int64))[:, None]
        accessor = InMemoryAccessor(spans, units_N1, torch.device("cpu"))
        dataset = Dataset(pl.DataFrame(self.labels), accessor)
        subsampler = Subsampler(MOST_PHONES, MOST_SPEAKERS if across else None)
        try:
            task = Task(dataset, on="phone", by=by, across=across, subsampler=subsampler)
        except EmptyTaskError:
            return None
        score = Score(task, "identical", progress=False)
        shared = [tuple(NEIGHBOURS)] if by and "next" in by else []
        return float(score.collapse(levels=[*shared, "speaker"]))
