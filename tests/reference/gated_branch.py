"""The E-Branchformer's gated branch and its merge: float64, one frame and channel after the other."""

import math

from reference.relative_attention import times


def gelu(x):
    return x * (1 + math.erf(x / math.sqrt(2))) / 2


def layer_norm(vector, scale, offset):
    mean = sum(vector) / len(vector)
    deviation = math.sqrt(sum((x - mean) ** 2 for x in vector) / len(vector) + 1e-5)
    return [(x - mean) / deviation * s + o for x, s, o in zip(vector, scale, offset, strict=True)]


def depthwise(frames, kernels, bias):
    """A kernel for each channel, centred; there is nothing before the first and after the last frame."""
    reach = len(kernels[0]) // 2
    return [
        [
            bias[channel]
            + sum(
                weight * frames[time + place - reach][channel]
                for place, weight in enumerate(kernels[channel])
                if 0 <= time + place - reach < len(frames)
            )
            for channel in range(len(bias))
        ]
        for time in range(len(frames))
    ]


def gating_mlp(frames, *, expand, norm, convolution, contract):
    """Each argument is a pair of weight and bias, as lists."""
    expanded = [[gelu(x) for x in times(*expand, frame)] for frame in frames]
    half = len(expanded[0]) // 2
    gates = depthwise([layer_norm(frame[half:], *norm) for frame in expanded], *convolution)
    return [
        times(*contract, [c * g for c, g in zip(frame[:half], gate, strict=True)])
        for frame, gate in zip(expanded, gates, strict=True)
    ]


def merged(left, right, *, convolution, project):
    """Both branches side by side, plus what a convolution makes of them, projected."""
    both = [a + b for a, b in zip(left, right, strict=True)]
    near = depthwise(both, *convolution)
    return [
        times(*project, [a + b for a, b in zip(frame, more, strict=True)])
        for frame, more in zip(both, near, strict=True)
    ]
