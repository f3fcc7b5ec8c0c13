"""One text from those of overlapping windows of a recording, no word doubled and none lost.

What a window reads at its ends is unreliable, because a word may be cut there. Where two windows
overlap, both have read the same speech: they are joined in the middle of the longest stretch that
both spell alike at the same time.
"""

from collections.abc import Sequence
from itertools import pairwise

from pipeline.asr.word_times import TimedPiece

# Two windows time a piece that they both read differently by less.
TOLERANCE_SECONDS = 0.2

Pair = tuple[int, int]


def join(
    left: Sequence[TimedPiece],
    right: Sequence[TimedPiece],
    overlap: tuple[float, float],
    separator: str,
) -> list[TimedPiece]:
    """The pieces of two windows in order of time, which both count from the recording's start.

    Where the windows spell nothing alike in the overlap, `separator` comes between their pieces: a
    space, or nothing in a language without any.
    """
    first = next((i for i, piece in enumerate(left) if piece.end > overlap[0]), len(left))
    last = next((j for j, piece in enumerate(right) if piece.start >= overlap[1]), len(right))
    stretch = _longest_stretch(_same_pieces(left[first:], right[:last]))
    if stretch:
        i, j = stretch[len(stretch) // 2]
        return [*left[: first + i], *right[j:]]
    cut = _widest_gap([*left[first:], *right[:last]], overlap)
    before = [piece for piece in left if _middle(piece) < cut]
    after = [piece for piece in right if _middle(piece) >= cut]
    between = [TimedPiece(separator, cut, cut, 1.0)] if before and after and separator else []
    return [*before, *between, *after]


def _same_pieces(left: Sequence[TimedPiece], right: Sequence[TimedPiece]) -> list[Pair]:
    """The longest common subsequence of pieces at the same time, as indices into both."""
    # longest[i][j] of left[i:] and right[j:]
    longest = [[0] * (len(right) + 1) for _ in range(len(left) + 1)]
    for i in reversed(range(len(left))):
        for j in reversed(range(len(right))):
            longest[i][j] = max(
                longest[i + 1][j],
                longest[i][j + 1],
                longest[i + 1][j + 1] + 1 if _same(left[i], right[j]) else 0,
            )
    pairs: list[Pair] = []
    i = j = 0
    while longest[i][j]:
        if _same(left[i], right[j]) and longest[i][j] == longest[i + 1][j + 1] + 1:
            pairs.append((i, j))
            i, j = i + 1, j + 1
        elif longest[i][j] == longest[i + 1][j]:
            i += 1
        else:
            j += 1
    return pairs


def _same(left: TimedPiece, right: TimedPiece) -> bool:
    near = abs(_middle(left) - _middle(right)) < TOLERANCE_SECONDS
    return near and left.spelling == right.spelling


def _longest_stretch(pairs: Sequence[Pair]) -> list[Pair]:
    """The longest run of pairs that follow each other in both texts."""
    runs: list[list[Pair]] = []
    for i, j in pairs:
        if runs and runs[-1][-1] == (i - 1, j - 1):
            runs[-1].append((i, j))
        else:
            runs.append([(i, j)])
    return max(runs, key=len, default=[])


def _widest_gap(pieces: Sequence[TimedPiece], overlap: tuple[float, float]) -> float:
    """The middle of the longest time in which the middle of no piece lies."""
    start, end = overlap
    inside = sorted(_middle(piece) for piece in pieces)
    times = [start, *(time for time in inside if start < time < end), end]
    low, high = max(pairwise(times), key=lambda gap: gap[1] - gap[0])
    return (low + high) / 2


def _middle(piece: TimedPiece) -> float:
    return (piece.start + piece.end) / 2
