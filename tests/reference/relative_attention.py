"""Attention with relative positions: float64, one pair of frames after the other."""

import math


def sinusoid(distance, dim):
    """The sinusoids of one distance, by formula."""
    angles = [distance / 10000 ** (2 * (column // 2) / dim) for column in range(dim)]
    return [math.cos(a) if column % 2 else math.sin(a) for column, a in enumerate(angles)]


def times(weight, bias, vector):
    """Weight x vector + bias over plain lists."""
    return [
        sum(w * x for w, x in zip(row, vector, strict=True)) + offset
        for row, offset in zip(weight, bias, strict=True)
    ]


def dot(left, right):
    return sum(a * b for a, b in zip(left, right, strict=True))


def relative_attention(frames, *, heads, query, key, value, distance, out, u, v):
    """Attended frames of one utterance (T lists of D numbers).

    `query`, `key`, `value` and `out` are pairs of weight and bias, `distance` is a weight, `u` and `v`
    have a row for each head. Score of (i, j): ((q_i + u) k_j + (q_i + v) r_{i-j}) / sqrt(d).
    """
    dim = len(frames[0])
    width = dim // heads
    q, k, val = ([times(*pair, frame) for frame in frames] for pair in (query, key, value))
    attended = [[] for _ in frames]
    for head in range(heads):
        part = slice(head * width, (head + 1) * width)
        for i in range(len(frames)):
            scores = []
            for j in range(len(frames)):
                r = times(distance, [0.0] * dim, sinusoid(i - j, dim))[part]
                content = dot([a + b for a, b in zip(q[i][part], u[head], strict=True)], k[j][part])
                place = dot([a + b for a, b in zip(q[i][part], v[head], strict=True)], r)
                scores.append((content + place) / math.sqrt(width))
            powers = [math.exp(score - max(scores)) for score in scores]
            weights = [power / sum(powers) for power in powers]
            attended[i] += [
                sum(w * val[j][column] for j, w in enumerate(weights))
                for column in range(dim)[part]
            ]
    return [times(*out, frame) for frame in attended]
