"""K-means on frames: assignment to the nearest centroid, seeding, Lloyd, mini-batches, coresets."""
