"""How many frames the encoder keeps, and whether they are enough for a text. Without PyTorch."""

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Any


def halved(num_frames: Any) -> Any:
    """Frames left after one convolution of stride 2; a number, or a tensor of numbers."""
    return (num_frames + 1) // 2


def fits(num_frames: int, target: Sequence[int], subsampling: int) -> bool:
    """Whether CTC can align `target` with an utterance of `num_frames` frames.

    It needs one encoded frame for each piece and one more between equal neighbours. Training leaves
    out utterances that do not fit, because their CTC loss would be infinite.
    """
    for _ in range(int(math.log2(subsampling))):
        num_frames = halved(num_frames)
    repeats = sum(left == right for left, right in pairwise(target))
    return num_frames >= max(1, len(target) + repeats)
