"""All segmentations of a text with their probabilities under a unigram model, by enumeration."""

import math
from itertools import combinations, pairwise


def probabilities(text, log_probs, sharpness):
    """The probability of each segmentation into a tuple of pieces, with exponent `sharpness` (Kudo, 2018, eq. 8)."""
    weights = {}
    for count in range(len(text)):
        for cuts in combinations(range(1, len(text)), count):
            edges = (0, *cuts, len(text))
            pieces = tuple(text[a:b] for a, b in pairwise(edges))
            if all(piece in log_probs for piece in pieces):
                weights[pieces] = math.exp(sharpness * sum(log_probs[piece] for piece in pieces))
    total = sum(weights.values())
    return {pieces: weight / total for pieces, weight in weights.items()}
