"""How well units and phones match, from how often they share a frame.

The measures are those of Hsu et al., "HuBERT: Self-Supervised Speech Representation Learning by
Masked Prediction of Hidden Units", 2021. P(p, u) is the share of frames with phone p and unit u.
Each raises a ValueError where nothing was counted.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pipeline.audio.utterance import SILENCE
from pipeline.config import Purity
from pipeline.metrics.units import require_in_range


class JointCounts:
    """Frames counted by label and unit, over any number of utterances."""

    def __init__(self, num_units: int) -> None:
        if num_units < 1:
            raise ValueError(f"num_units must be at least 1, got {num_units}")
        self.num_units = num_units
        self._counts_U: dict[str, NDArray[np.int64]] = {}

    def add(self, labels: Sequence[str], units: ArrayLike) -> None:
        """Count one utterance: a label and a unit for each frame.

        Raises:
            ValueError: as `add_spans`.
        """
        names, label_F = np.unique(np.asarray(labels, dtype=np.str_), return_inverse=True)
        once_F = np.ones_like(label_F)
        self.add_spans(names.tolist(), label_F, once_F, np.asarray(units, dtype=np.int64))

    def add_spans(
        self,
        labels: Sequence[str],
        label_N: NDArray[np.int64],
        num_frames_N: NDArray[np.int64],
        units_F: NDArray[np.integer],
    ) -> None:
        """Count the frames of any number of utterances, in N spans of one label.

        `label_N` has the place of each span's label. Two of `labels` may be equal.

        Raises:
            ValueError: the numbers of frames and units differ, or a unit is out of range.
        """
        pair_F = np.repeat(label_N * self.num_units, num_frames_N)
        if units_F.shape != pair_F.shape:
            raise ValueError(
                f"got {len(pair_F)} labels for units of shape {list(units_F.shape)}: each frame "
                "needs one of each; were both made on the same frame grid?"
            )
        require_in_range(units_F, self.num_units)
        pair_F += units_F
        met = np.bincount(pair_F, minlength=len(labels) * self.num_units)
        for label, met_U in zip(labels, met.reshape(-1, self.num_units), strict=True):
            if met_U.any():
                self._counts_U[label] = self._counts_U.get(label, 0) + met_U

    @property
    def phones(self) -> list[str]:
        """The labels counted, sorted: the rows of `matrix`."""
        return sorted(self._counts_U)

    @property
    def matrix(self) -> NDArray[np.int64]:
        """Frames by phone and unit, counts_PU."""
        rows = [self._counts_U[label] for label in self.phones]
        return np.array(rows, dtype=np.int64).reshape(len(rows), self.num_units)

    def without(self, label: str) -> "JointCounts":
        """The counts of all other labels."""
        others = JointCounts(self.num_units)
        others._counts_U = {name: met_U for name, met_U in self._counts_U.items() if name != label}
        return others


def phone_purity(counts: JointCounts) -> float:
    """sum_u max_p P(p, u): how often a unit's most frequent phone is the correct one."""
    return float(_joint(counts).max(axis=0).sum())


def cluster_purity(counts: JointCounts) -> float:
    """sum_p max_u P(p, u): how often a phone's most frequent unit is the one assigned."""
    return float(_joint(counts).max(axis=1).sum())


def pnmi(counts: JointCounts) -> float:
    """I(p; u) / H(p): the share of a phone's uncertainty that its unit resolves.

    0 where all frames are one phone, which leaves no uncertainty to resolve.
    """
    joint_PU = _joint(counts)
    phone_P, unit_U = joint_PU.sum(axis=1), joint_PU.sum(axis=0)
    met = joint_PU > 0
    ratio = joint_PU[met] / np.outer(phone_P, unit_U)[met]
    information = float((joint_PU[met] * np.log(ratio)).sum())
    seen_P = phone_P[phone_P > 0]
    if len(seen_P) == 1:
        return 0.0
    uncertainty = -float((seen_P * np.log(seen_P)).sum())
    return min(1.0, information / uncertainty)  # rounding can lift a perfect codebook above 1


MEASURES = {"phone_purity": phone_purity, "cluster_purity": cluster_purity, "pnmi": pnmi}


def scores(counts: JointCounts, settings: Purity) -> dict[str, float]:
    """Each measure as `settings.silence` says, and with silence as "<measure>_with_silence".

    `counts` are those of all frames, all silence being one label. Only silence has no scores.
    """
    speech = counts.without(SILENCE)
    if not speech.phones:
        return {}
    chosen = counts if settings.silence == "include" else speech
    return {name: measure(chosen) for name, measure in MEASURES.items()} | {
        f"{name}_with_silence": measure(counts) for name, measure in MEASURES.items()
    }


def one_silence(labels: Sequence[str], settings: Purity) -> list[str]:
    """The labels, all that mean silence as SILENCE."""
    return [SILENCE if label in settings.silence_labels else label for label in labels]


def _joint(counts: JointCounts) -> NDArray[np.float64]:
    """P(p, u) as a matrix."""
    counts_PU = counts.matrix
    if counts_PU.sum() == 0:
        raise ValueError(
            "no frames were counted: purity needs utterances with an alignment, and labels that "
            "are not all silence"
        )
    joint_PU: NDArray[np.float64] = counts_PU / counts_PU.sum()
    return joint_PU
