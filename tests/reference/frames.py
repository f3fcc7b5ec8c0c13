"""The frame arithmetic, layer by layer and position by position."""

from collections.abc import Sequence


def num_frames(num_samples: int, kernels: Sequence[int], strides: Sequence[int]) -> int:
    """The output length of a stack of unpadded convolutions, counted, not computed."""
    length = num_samples
    for kernel, stride in zip(kernels, strides, strict=True):
        length = sum(1 for start in range(0, length, stride) if start + kernel <= length)
    return length


def receptive_samples(
    frame: int, kernels: Sequence[int], strides: Sequence[int]
) -> tuple[int, int]:
    """First sample that `frame` reads, and one past the last."""
    first, last = frame, frame
    for kernel, stride in reversed(list(zip(kernels, strides, strict=True))):
        first, last = first * stride, last * stride + kernel - 1
    return first, last + 1
