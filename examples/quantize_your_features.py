"""Differentiable k-means in a training loop of your own: features in, units that serve a task out.

python examples/quantize_your_features.py
"""

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from pipeline.clustering.kmeans import fit_sample
from pipeline.metrics.units import perplexity_of_counts, usage_of_counts
from pipeline.quantizer.dkm import DifferentiableKMeans

NUM_UNITS, DIM, NUM_CLASSES, STEPS = 16, 24, 10, 200


def batch(seed: int) -> tuple[Tensor, Tensor]:
    """Put your own features (B x T x D) and labels here; these labels are in 8 quiet dimensions."""
    random = torch.Generator().manual_seed(seed)
    means_CD = 4 * torch.randn(NUM_CLASSES, 8, generator=torch.Generator().manual_seed(0))
    labels_BT = torch.randint(NUM_CLASSES, (8, 50), generator=random)
    quiet = means_CD[labels_BT] + torch.randn(8, 50, 8, generator=random)
    loud = 8 * torch.randn(8, 50, DIM - 8, generator=random)
    return torch.cat([quiet, loud], dim=-1), labels_BT


def main() -> None:
    torch.manual_seed(0)
    encoder = nn.Linear(DIM, DIM)  # your model before the units; the gradient reaches it
    with torch.no_grad():
        frames_ND = encoder(batch(0)[0]).flatten(end_dim=1)
    fit = fit_sample(frames_ND, NUM_UNITS, seed=0, max_passes=20, tolerance=1e-4)
    distance = fit.sums.mean_squared_distance
    quantizer = DifferentiableKMeans(
        fit.centroids_KD, 10 / distance, sigma_learned=False, mean_squared_distance=distance
    )
    embedding, head = nn.Embedding(NUM_UNITS, 32), nn.Linear(32, NUM_CLASSES)
    optimizer = torch.optim.AdamW(
        nn.ModuleList([encoder, quantizer, embedding, head]).parameters(), lr=1e-2
    )
    for step in range(STEPS):
        frames_BTD, labels_BT = batch(step)
        mask_BT = torch.ones_like(labels_BT, dtype=torch.bool)  # false on padded frames
        tau = max(0.1, 0.99**step)  # falls: units are drawn less and less at random
        quantized = quantizer(encoder(frames_BTD), mask_BT, embedding.weight, tau, seed=step)
        loss = cross_entropy(head(quantized.embedded_BTE).flatten(end_dim=1), labels_BT.flatten())
        (loss + 0.1 * quantized.losses["kmeans"] / mask_BT.sum()).backward()
        optimizer.step()
        optimizer.zero_grad()
        if step % 40 == 39:
            counts_K = quantized.stats["counts_K"].numpy()
            used, perplexity = usage_of_counts(counts_K), perplexity_of_counts(counts_K)
            print(
                f"step {step + 1}: loss {loss:.3f}, {used:.0%} of units used, "
                f"perplexity {perplexity:.1f}"
            )


if __name__ == "__main__":
    main()
