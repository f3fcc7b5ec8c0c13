"""Batches of utterances of similar length."""

import math
from collections.abc import Callable, Sequence
from typing import TypeVar

import torch

Item = TypeVar("Item")
Result = TypeVar("Result")

# Seconds of audio, padding included, in a batch, unless the config says otherwise. On 2 CPU cores
# WavLM base processed 9.6, 9.3, 7.9 and 7.1 seconds of audio per second in batches of 10, 20, 40 and
# 80 s: the output of its convolutions soon exceeds the caches. A GPU needs large batches.
BATCH_SECONDS = {"cpu": 10.0, "cuda": 160.0}


def batch_seconds_on(device: torch.device, requested: float | None = None) -> float:
    """The requested size, or a size that suits the device.

    Raises:
        ValueError: the requested size is not a positive number.
    """
    if requested is not None and not 0 < requested < math.inf:
        raise ValueError(
            f"batch_seconds is {requested}: give a positive number of seconds, or None"
        )
    return requested or BATCH_SECONDS.get(device.type, BATCH_SECONDS["cpu"])


def rounded_frames(num_frames: int) -> int:
    """The smallest of few lengths that holds so many frames: eight for each doubling.

    Each is a multiple of 16, which attention on a GPU asks of its masks.
    """
    step = max(16, 1 << max(0, (num_frames - 1).bit_length() - 4))
    return -(-num_frames // step) * step


def length_batches(lengths: Sequence[float], max_padded: float) -> list[list[int]]:
    """Indices in batches, shortest first, whose padded size is at most `max_padded`.

    The padded size is the number of rows times the longest length; an utterance longer than
    `max_padded` is a batch by itself. Equal lengths keep their order.
    """
    batches: list[list[int]] = []
    for index in sorted(range(len(lengths)), key=lengths.__getitem__):
        # Lengths are ascending, so this one is the longest of its batch.
        if batches and lengths[index] * (len(batches[-1]) + 1) <= max_padded:
            batches[-1].append(index)
        else:
            batches.append([index])
    return batches


def map_in_batches(
    process: Callable[[list[Item]], Sequence[Result]],
    items: Sequence[Item],
    lengths: Sequence[float],
    max_padded: float,
    report: Callable[[int], None] = lambda _done: None,
) -> list[Result]:
    """What `process` makes of each item, in the order given; it gets a batch of `length_batches`.

    `report` gets the number of items done so far.
    """
    results: dict[int, Result] = {}
    for batch in length_batches(lengths, max_padded):
        results |= zip(batch, process([items[index] for index in batch]), strict=True)
        report(len(results))
    return [results[index] for index in range(len(items))]
