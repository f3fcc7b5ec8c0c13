"""Batches of utterances of similar length."""

from collections.abc import Sequence


def length_batches(lengths: Sequence[float], max_padded: float) -> list[list[int]]:
    """Indices in batches, shortest first, whose padded size is at most `max_padded`.

    The padded size is the number of rows times the longest length; an utterance longer than
    `max_padded` is a batch of its own. Equal lengths keep their order.
    """
    batches: list[list[int]] = []
    for index in sorted(range(len(lengths)), key=lengths.__getitem__):
        # Lengths rise, so the newcomer is the longest.
        if batches and lengths[index] * (len(batches[-1]) + 1) <= max_padded:
            batches[-1].append(index)
        else:
            batches.append([index])
    return batches
