"""What scores of resynthesised speech lie between: recordings, a copy of them, other utterances."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from pipeline.audio.decode import read_utterance
from pipeline.audio.utterance import Utterance
from pipeline.metrics.utterance_scores import Share
from pipeline.resynthesis.copy_synthesis import copy_synthesis
from pipeline.resynthesis.heard import RECORDINGS
from pipeline.resynthesis.likeness import likeness
from pipeline.resynthesis.measures import WITHOUT_REFERENCE, open_measures

# Scores begin with these.
COPY, OTHER = "copy_synthesis", "other_utterance"


@dataclass(frozen=True)
class Bound:
    """One utterance's bounds; `copy` is its copy-synthesis."""

    utterance: Utterance
    copy: np.ndarray
    shares: Mapping[str, Share]


def others_in_place(chosen: Sequence[Utterance], among: Sequence[Utterance]) -> list[Utterance]:
    """For each chosen utterance the next one of its speaker, or else the next one of anybody.

    After the last comes the first; an utterance that is alone has itself.
    """
    place = {utterance.utt_id: index for index, utterance in enumerate(among)}
    found = []
    for utterance in chosen:
        first = place[utterance.utt_id] + 1
        others = [*among[first:], *among[: first - 1]]
        same = (other for other in others if other.speaker == utterance.speaker)
        found.append(next(same, next(iter(others), utterance)))
    return found


class Bounds:
    """Bounds of one utterance after the other, by the likeness to the recording and by `measures`."""

    def __init__(self, measures: Sequence[str], sample_rate_hz: int) -> None:
        self._measure = open_measures(measures)
        self._measure_alone = open_measures([m for m in measures if m in WITHOUT_REFERENCE])
        self._sample_rate_hz = sample_rate_hz

    def __call__(self, utterance: Utterance, other: Utterance) -> Bound:
        """The scores of a recording, of its copy-synthesis and of another utterance in its place."""
        recording, instead = (self._read(each) for each in (utterance, other))
        copy = copy_synthesis(recording, self._sample_rate_hz)
        found = {
            RECORDINGS: self._measure_alone(recording, recording),
            COPY: self._compare(recording, copy),
            OTHER: self._compare(recording, instead),
        }
        shares = {
            f"{speech}_{name}": share
            for speech, scores in found.items()
            for name, share in scores.items()
        }
        return Bound(utterance, copy, shares)

    def _read(self, utterance: Utterance) -> np.ndarray:
        return read_utterance(utterance, self._sample_rate_hz)

    def _compare(self, recording: np.ndarray, made: np.ndarray) -> dict[str, Share]:
        return likeness(recording, made, self._sample_rate_hz) | self._measure(recording, made)
