"""Which utterances make a step: batches by total seconds, the same for any number of workers."""

import random
from collections.abc import Sequence
from dataclasses import dataclass

LENGTH_JITTER = 0.15


@dataclass(frozen=True)
class Share:
    """One worker's part of one micro-batch.

    A micro-batch with fewer utterances than workers is filled up, so that every worker takes part
    in every gradient exchange; a filling utterance's loss is multiplied by zero.

    Attributes:
        indices: of the utterances.
        positions: of the utterances in the batch, the same on every worker.
        counted: false for filling.
    """

    indices: tuple[int, ...]
    positions: tuple[int, ...]
    counted: bool


@dataclass(frozen=True)
class Batch:
    """The utterances of one optimizer step, over all workers."""

    indices: tuple[int, ...]

    def share(self, rank: int, world_size: int, micro: int, num_micro: int) -> Share:
        """The part of worker `rank` in micro-batch `micro`; utterances are dealt in turn."""
        slot = micro * world_size + rank
        positions = tuple(range(len(self.indices)))[slot :: world_size * num_micro]
        own = positions or (0,)
        return Share(
            tuple(self.indices[position] for position in own), own, counted=bool(positions)
        )


def epoch_batches(
    durations_seconds: Sequence[float], batch_seconds: float, seed: int, epoch: int
) -> list[Batch]:
    """All utterances once, in batches of similar length and at most `batch_seconds`, shuffled.

    Lengths are jittered before sorting, so that neighbours change from epoch to epoch. An
    utterance longer than `batch_seconds` is a batch of its own.
    """
    generator = random.Random(f"batches/{seed}/{epoch}")  # noqa: S311 (an order, no secret)
    jittered = [
        seconds * generator.uniform(1 - LENGTH_JITTER, 1 + LENGTH_JITTER)
        for seconds in durations_seconds
    ]
    order = sorted(range(len(jittered)), key=jittered.__getitem__)
    batches = _cut(order, durations_seconds, batch_seconds)
    generator.shuffle(batches)
    return batches


def sorted_batches(durations_seconds: Sequence[float], batch_seconds: float) -> list[Batch]:
    """The same without any randomness, longest last: for validation and decoding."""
    order = sorted(range(len(durations_seconds)), key=durations_seconds.__getitem__)
    return _cut(order, durations_seconds, batch_seconds)


def _cut(order: list[int], durations_seconds: Sequence[float], batch_seconds: float) -> list[Batch]:
    batches: list[list[int]] = []
    total = 0.0
    for index in order:
        total += durations_seconds[index]
        if not batches or total > batch_seconds:
            batches.append([])
            total = durations_seconds[index]
        batches[-1].append(index)
    return [Batch(tuple(batch)) for batch in batches]
