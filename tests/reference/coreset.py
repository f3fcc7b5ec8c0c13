"""A coreset by its definition: float64, frame by frame, in plain lists."""

import math


def inertia(frames, weights, centroids):
    """The weighted sum of squared distances to the nearest centroid."""
    return math.fsum(
        weight * min(math.dist(frame, centroid) ** 2 for centroid in centroids)
        for frame, weight in zip(frames, weights, strict=True)
    )


def condensed(frames, weights, centroids, size, offset):
    """Which frames are drawn and the weight of each, as {index: weight}.

    A frame's sensitivity is half its share of the inertia and half its share of its cluster's
    weight, each cluster counting alike. On a line the frames lie one behind the other, cluster by
    cluster, each as long as `size` times its sensitivity, and every whole number + `offset` draws
    the frame that it falls on.
    """
    nearest = []
    for frame in frames:
        distances = [math.dist(frame, centroid) ** 2 for centroid in centroids]
        nearest.append((distances.index(min(distances)), min(distances)))
    clusters = {
        unit: [index for index, found in enumerate(nearest) if found[0] == unit]
        for unit in sorted({unit for unit, _ in nearest})
    }
    due = {unit: math.fsum(weights[i] for i in members) for unit, members in clusters.items()}
    total = inertia(frames, weights, centroids)
    drawn, start = {}, 0.0
    for unit, members in clusters.items():
        for index in members:
            share = weights[index] * nearest[index][1] / total
            length = size * (share + weights[index] / due[unit] / len(clusters)) / 2
            points = [p for p in range(size) if start <= p + offset < start + length]
            if points:
                drawn[index] = weights[index] * len(points) / length
            start += length
    found = {
        unit: math.fsum(drawn.get(index, 0) for index in members)
        for unit, members in clusters.items()
    }
    scaled = {
        index: w * due[nearest[index][0]] / found[nearest[index][0]] for index, w in drawn.items()
    }
    left_out = math.fsum(weights) / math.fsum(scaled.values())
    return {index: weight * left_out for index, weight in scaled.items()}
