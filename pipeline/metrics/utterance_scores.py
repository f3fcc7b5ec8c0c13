"""Scores of single utterances, what they amount to over many, and how sure that is.

A score over utterances is the sum of their values divided by that of their weights: word errors and
words give an error rate, and values of weight 1 a mean.
"""

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from pipeline.metrics.significance import interval, resampled_sums
from pipeline.storage import table_schemas
from pipeline.storage.artifacts import Artifact

TABLE = "scores.parquet"


class Share(NamedTuple):
    """What an utterance adds to a score; one that is not a number adds nothing."""

    value: float
    weight: float = 1.0


@dataclass(frozen=True)
class ScoredUtterance:
    """An utterance with its share in each score that it has."""

    utt_id: str
    split: str
    speaker: str
    shares: Mapping[str, Share]


def totals(scored: Sequence[ScoredUtterance]) -> dict[str, float]:
    """Each score over all utterances that have it; one without any weight is missing."""
    return {name: _rate(shares) for name, shares in _by_score(scored).items() if _weight(shares)}


def _rate(shares: Sequence[Share]) -> float:
    return sum(share.value for share in shares) / _weight(shares)


def _weight(shares: Sequence[Share]) -> float:
    return sum(share.weight for share in shares)


def _by_score(scored: Sequence[ScoredUtterance]) -> dict[str, list[Share]]:
    found: dict[str, list[Share]] = defaultdict(list)
    for each in scored:
        for name, share in each.shares.items():
            if not math.isnan(share.value):
                found[name].append(share)
    return found


def intervals(scored: Sequence[ScoredUtterance]) -> dict[str, float]:
    """The 95 % interval of each score, `wer_low` and `wer_high`, over other speakers and utterances.

    All scores of a round come from the same utterances. A score that a single utterance has tells of
    no other, and has none.
    """
    names = [name for name, shares in _by_score(scored).items() if len(shares) > 1]
    if not names:
        return {}
    shares_UN2 = np.zeros((len(scored), len(names), 2))
    for row, each in enumerate(scored):
        for column, name in enumerate(names):
            share = each.shares.get(name, Share(math.nan))
            shares_UN2[row, column] = (0, 0) if math.isnan(share.value) else share
    speakers_U = np.array([each.speaker for each in scored])
    sums_RC = resampled_sums(shares_UN2.reshape(len(scored), -1), speakers_U)
    sums_RN2 = sums_RC.reshape(len(sums_RC), len(names), 2)
    found: dict[str, float] = {}
    for column, name in enumerate(names):
        values_R, weights_R = sums_RN2[:, column].T
        if (drawn_R := weights_R > 0).any():
            low, high = interval(values_R[drawn_R] / weights_R[drawn_R])
            found |= {f"{name}_low": low, f"{name}_high": high}
    return found


def write(output: Artifact, scored: Sequence[ScoredUtterance]) -> dict[str, float]:
    """Store a row for each utterance and score; returns the scores over all."""
    rows = [
        {
            "utt_id": each.utt_id,
            "split": each.split,
            "speaker": each.speaker,
            "score": name,
            **share._asdict(),
        }
        for each in scored
        for name, share in each.shares.items()
        if not math.isnan(share.value)
    ]
    output.write_table(TABLE, pa.Table.from_pylist(rows, schema=table_schemas.UTTERANCE_SCORES))
    return totals(scored)


def read(output: Artifact) -> list[ScoredUtterance]:
    """What `write` stored.

    Raises:
        ArtifactError: the table is missing.
        pyarrow.ArrowException: it is damaged.
    """
    shares: dict[tuple[str, str, str], dict[str, Share]] = defaultdict(dict)
    for row in output.read_table(TABLE).to_pylist():
        key = row["utt_id"], row["split"], row["speaker"]
        shares[key][row["score"]] = Share(row["value"], row["weight"])
    return [ScoredUtterance(*key, found) for key, found in shares.items()]
