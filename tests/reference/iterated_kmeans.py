"""Soft k-means updates in float64, frame by frame, with gradients by autograd."""

import torch
from reference.soft_assignment import separation


def shares(frame, centroids, sigma_squared, distance):
    """softmax_k(-sigma^2 d(s, mu_k)) of one frame, shifted only against underflow."""
    distances = torch.stack([separation(frame, centroid, distance) for centroid in centroids])
    weights = torch.exp(-sigma_squared * (distances - distances.min().detach()))
    return weights / weights.sum()


def update(frames, centroids, sigma_squared, prior, distance="squared"):
    """Each centroid's mean over the frames and `prior` copies of itself, weighted by shares."""
    totals = [prior * centroid for centroid in centroids]
    masses = [prior] * len(centroids)
    for frame in frames:
        for unit, share in enumerate(shares(frame, centroids, sigma_squared, distance)):
            totals[unit] = totals[unit] + share * frame
            masses[unit] = masses[unit] + share
    return torch.stack([total / mass for total, mass in zip(totals, masses, strict=True)])


def settled(frames, centroids, sigma_squared, prior, iterations, distance="squared"):  # noqa: PLR0917
    """The centroids after so many updates; all tensors are float64."""
    for _ in range(iterations):
        centroids = update(frames, centroids, sigma_squared, prior, distance)
    return centroids
