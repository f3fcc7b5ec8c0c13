"""Comparison of two tracks of F0, sum by sum."""

import math


def f0_comparison(first, other):
    """Correlation of log F0, root mean square error in cents, share of frames voiced in one alone."""
    pairs = list(zip(first, other, strict=False))
    voiced = [(math.log2(a), math.log2(b)) for a, b in pairs if a > 0 and b > 0]
    number = len(voiced)
    mean_a, mean_b = (sum(column) / number for column in zip(*voiced, strict=True))
    together = sum((a - mean_a) * (b - mean_b) for a, b in voiced)
    squares = [sum((a - mean_a) ** 2 for a, _ in voiced), sum((b - mean_b) ** 2 for _, b in voiced)]
    rmse = 1200 * math.sqrt(sum((a - b) ** 2 for a, b in voiced) / number)
    errors = sum((a > 0) != (b > 0) for a, b in pairs)
    return together / math.sqrt(squares[0] * squares[1]), rmse, errors / len(pairs)
