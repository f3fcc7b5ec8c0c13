"""From hidden states to discrete units: layer mix, k-means, differentiable k-means."""
