"""Soft k-means updates in float64, frame by frame, with gradients by autograd."""

import torch


def shares(frame, centroids, sigma_squared):
    """softmax_k(-sigma^2 ||s - mu_k||^2) of one frame, shifted only against underflow."""
    distances = torch.stack([((frame - centroid) ** 2).sum() for centroid in centroids])
    weights = torch.exp(-sigma_squared * (distances - distances.min().detach()))
    return weights / weights.sum()


def update(frames, centroids, sigma_squared, prior):
    """Each centroid's mean over the frames and `prior` copies of itself, weighted by shares."""
    totals = [prior * centroid for centroid in centroids]
    masses = [prior] * len(centroids)
    for frame in frames:
        for unit, share in enumerate(shares(frame, centroids, sigma_squared)):
            totals[unit] = totals[unit] + share * frame
            masses[unit] = masses[unit] + share
    return torch.stack([total / mass for total, mass in zip(totals, masses, strict=True)])


def settled(frames, centroids, sigma_squared, prior, iterations):
    """The centroids after so many updates; all tensors are float64."""
    for _ in range(iterations):
        centroids = update(frames, centroids, sigma_squared, prior)
    return centroids
