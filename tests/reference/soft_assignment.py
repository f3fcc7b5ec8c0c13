"""Soft and hard assignment, straight-through sampling and layer mix: float64, frame by frame."""

import math

import torch


def squared_distance(frame, centroid):
    return sum((float(a) - float(b)) ** 2 for a, b in zip(frame, centroid, strict=True))


def nearest(frames, centroids):
    """The first centroid at the least distance, and that distance, for each frame."""
    found = []
    for frame in frames.tolist():
        best, least = -1, math.inf
        for index, centroid in enumerate(centroids.tolist()):
            distance = squared_distance(frame, centroid)
            if distance < least:
                best, least = index, distance
        found.append((best, least))
    return found


def separation(frame, centroid, distance):
    """||s - mu||^2 or its root, by autograd; the root's gradient is 0 where it is 0."""
    squared = ((frame - centroid) ** 2).sum()
    return squared if distance == "squared" or squared == 0 else torch.sqrt(squared)


def probabilities(frame, centroids, sigma_squared, distance="squared"):
    """p(j | s) of one frame from the definition, shifted only against underflow."""
    power = {"squared": 1, "euclidean": 0.5}[distance]
    distances = [squared_distance(frame, centroid) ** power for centroid in centroids]
    powers = [math.exp(-sigma_squared * (distance - min(distances))) for distance in distances]
    return [power / sum(powers) for power in powers]


def relaxed(
    frames_BTD,
    mask_BT,
    centroids_KD,
    embedding_KE,
    *,
    sigma_squared,
    tau,
    noise_NK,
    hard,
    distance="squared",
):
    """Relaxed choice, y = softmax((log p + noise) / tau), by autograd, one frame after the other.

    `hard` embeds the one-hot vector of argmax y with the gradient of y, otherwise y itself.

    `noise_NK` holds one row of Gumbel noise for each valid frame, in reading order. All tensors are
    float64. Returns embedded_BTE and the chosen unit of each valid frame.
    """
    rows = iter(noise_NK)
    batch, units = [], []
    for utterance, valid in zip(frames_BTD, mask_BT.tolist(), strict=True):
        embedded = []
        for frame, counts in zip(utterance, valid, strict=True):
            if not counts:
                embedded.append(torch.zeros(embedding_KE.shape[1], dtype=torch.float64))
                continue
            distances = torch.stack([separation(frame, mu, distance) for mu in centroids_KD])
            weights = torch.exp(-sigma_squared * (distances - distances.min().detach()))
            log_p = torch.log(weights / weights.sum())
            powers = torch.exp((log_p + next(rows)) / tau)
            relaxed = powers / powers.sum()
            unit = int(relaxed.argmax())
            one_hot = torch.zeros_like(relaxed)
            one_hot[unit] = 1
            choice = one_hot + relaxed - relaxed.detach() if hard else relaxed
            embedded.append(sum(choice[k] * embedding_KE[k] for k in range(len(choice))))
            units.append(unit)
        batch.append(torch.stack(embedded))
    return torch.stack(batch), units


def mixed(layers, logits):
    """sum_l softmax(logits)_l layers_l over plain lists, one value at a time."""
    powers = [math.exp(logit) for logit in logits]
    return [
        sum(power / sum(powers) * values[i] for power, values in zip(powers, layers, strict=True))
        for i in range(len(layers[0]))
    ]
