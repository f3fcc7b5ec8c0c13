"""Segmentations that are drawn: BPE with dropped merges, and samples of a unigram model.

SentencePiece draws them too, but of one seed other ones in each process, so a training that resumes
would not see what it saw before. The random numbers here are those of `random.Random`, which are the
same everywhere.
"""

import math
import random
from collections.abc import Mapping
from heapq import heappop, heappush

# How much less likely than the least likely piece a character is that is no piece, as in SentencePiece.
UNKNOWN_PENALTY = 10.0


def drop_merges(
    text: str, ranks: Mapping[str, int], dropout: float, chance: random.Random
) -> list[str]:
    """BPE dropout (Provilkov et al., 2020): each merge that is due is left out with `dropout`.

    As in SentencePiece, two neighbours that were left out stay apart until one of them has grown.

    Args:
        text: any characters.
        ranks: the pieces; of two merges that are possible the one with the lower rank is made first.
        dropout: the share of merges left out, in [0, 1].
        chance: draws.
    """
    parts = list(text)
    before, behind = [i - 1 for i in range(len(parts))], [i + 1 for i in range(len(parts))]
    due: list[tuple[int, int, str]] = []

    def offer(left: int) -> None:
        if left >= 0 and behind[left] < len(parts):
            pair = parts[left] + parts[behind[left]]
            if pair in ranks:
                heappush(due, (ranks[pair], left, pair))

    for left in range(len(parts)):
        offer(left)
    while due:
        _, left, pair = heappop(due)
        right = behind[left]
        if right >= len(parts) or not parts[left] or parts[left] + parts[right] != pair:
            continue  # one of them has become part of another piece
        if chance.random() < dropout:
            continue
        parts[left], parts[right] = pair, ""
        behind[left] = behind[right]
        if behind[left] < len(parts):
            before[behind[left]] = left
        offer(before[left])
        offer(left)
    return [part for part in parts if part]


def sample_pieces(
    text: str, log_probs: Mapping[str, float], sharpness: float, chance: random.Random
) -> list[str]:
    """A segmentation with p proportional to the product of p(piece)^`sharpness` (Kudo, 2018).

    By forward filtering and backward sampling over all segmentations. A character that is no piece is
    one by itself, less likely than any other.

    Args:
        text: any characters.
        log_probs: log p of each piece.
        sharpness: alpha of the paper; 0 takes all segmentations for equally likely.
        chance: draws.
    """
    longest = max(map(len, log_probs))
    unknown = min(log_probs.values()) - UNKNOWN_PENALTY
    sums = [0.0]  # log of the sum over all segmentations of text[:end]
    choices: list[list[tuple[int, float]]] = [[]]  # where the last piece of text[:end] may start
    for end in range(1, len(text) + 1):
        found = [
            (start, sums[start] + sharpness * log_probs[text[start:end]])
            for start in range(max(0, end - longest), end)
            if text[start:end] in log_probs
        ]
        if text[end - 1] not in log_probs:
            found.append((end - 1, sums[end - 1] + sharpness * unknown))
        highest = max(weight for _, weight in found)
        sums.append(highest + math.log(sum(math.exp(weight - highest) for _, weight in found)))
        choices.append(found)
    pieces: list[str] = []
    end = len(text)
    while end:
        weights = [math.exp(weight - sums[end]) for _, weight in choices[end]]
        [(start, _)] = chance.choices(choices[end], weights)
        pieces.append(text[start:end])
        end = start
    return pieces[::-1]
