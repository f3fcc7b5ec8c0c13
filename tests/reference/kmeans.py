"""One Lloyd step in float64, frame by frame, in plain lists."""

import math


def step(frames, centroids):
    """Sums and counts by cluster, inertia, and the means (None for an empty cluster)."""
    dim = len(centroids[0])
    sums = [[0.0] * dim for _ in centroids]
    counts = [0] * len(centroids)
    inertia = 0.0
    for frame in frames:
        distances = [math.dist(frame, centroid) ** 2 for centroid in centroids]
        best = distances.index(min(distances))
        counts[best] += 1
        inertia += distances[best]
        for i, value in enumerate(frame):
            sums[best][i] += value
    means = [
        [value / count for value in total] if count else None
        for total, count in zip(sums, counts, strict=True)
    ]
    return sums, counts, inertia, means
