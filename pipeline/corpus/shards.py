"""A corpus in shards: which utterances a worker computes at a time, and the file that it writes.

Imports no PyTorch: who plans shards need not have the models that write them.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby

from pipeline.audio.utterance import Utterance

# The folders of an output in which shards of features and of units lie.
FEATURES, TOKENS = "shards", "tokens"
SHARDS_OF_CORPUS, LEAST_SHARD_SECONDS, MOST_SHARD_SECONDS = 16, 60.0, 300.0


@dataclass(frozen=True)
class Shard:
    """Utterances of one split, and the name of their file."""

    name: str
    utterances: tuple[Utterance, ...]


def plan_shards(
    utterances: Sequence[Utterance],
    shard_utterances: int,
    shard_seconds: float | None = None,
    folder: str = FEATURES,
) -> list[Shard]:
    """Divide each split, sorted by duration, into shards `<folder>/<split>-00000.parquet`.

    A shard has utterances of similar length, so its batches need little padding: at most
    `shard_utterances` and at most `shard_seconds` of audio, or one longer utterance. If
    `shard_seconds` is `None`, it is a 16th of the corpus, so that all workers finish at about the
    same time, but within limits: shards are not tiny, and the layers of a *large* model fit into a
    worker's memory.
    """
    if shard_seconds is None:
        share = sum(utterance.duration for utterance in utterances) / SHARDS_OF_CORPUS
        shard_seconds = min(max(share, LEAST_SHARD_SECONDS), MOST_SHARD_SECONDS)
    ordered = sorted(utterances, key=lambda each: (each.split, each.duration, each.utt_id))
    shards = []
    for split, group in groupby(ordered, key=lambda each: each.split):
        for number, members in enumerate(_cut(group, shard_utterances, shard_seconds)):
            shards.append(Shard(f"{folder}/{split}-{number:05d}.parquet", tuple(members)))
    return shards


def _cut(utterances: Iterable[Utterance], most: int, most_seconds: float) -> list[list[Utterance]]:
    groups: list[list[Utterance]] = []
    seconds = 0.0
    for utterance in utterances:
        if groups and len(groups[-1]) < most and seconds + utterance.duration <= most_seconds:
            groups[-1].append(utterance)
            seconds += utterance.duration
        else:
            groups.append([utterance])
            seconds = utterance.duration
    return groups
