"""CTC in float64: the forward algorithm over an extended label string, and plain enumeration."""

import itertools
import math

import numpy as np


def negative_log_likelihood(log_probs_TV, target, blank=0):
    """-log p(target) by the forward algorithm of Graves et al. (2006), in probabilities."""
    probs = np.exp(np.asarray(log_probs_TV, dtype=np.float64))
    extended = [blank]
    for unit in target:
        extended += [unit, blank]
    alpha = np.zeros(len(extended))
    alpha[0] = probs[0, extended[0]]
    if target:
        alpha[1] = probs[0, extended[1]]
    for frame in probs[1:]:
        new = np.zeros_like(alpha)
        for place, unit in enumerate(extended):
            arriving = alpha[place]
            if place >= 1:
                arriving += alpha[place - 1]
            if place >= 2 and unit not in (blank, extended[place - 2]):
                arriving += alpha[place - 2]
            new[place] = arriving * frame[unit]
        alpha = new
    total = alpha[-1] + (alpha[-2] if target else 0.0)
    return math.inf if total == 0 else -math.log(total)


def texts_with_probabilities(log_probs_TV, blank=0):
    """Every text that T frames can show, with its probability: sums over all V^T alignments."""
    log_probs = np.asarray(log_probs_TV, dtype=np.float64)
    num_frames, num_units = log_probs.shape
    found = {}
    for path in itertools.product(range(num_units), repeat=num_frames):
        merged = [unit for unit, _ in itertools.groupby(path)]
        text = tuple(unit for unit in merged if unit != blank)
        weight = math.exp(sum(log_probs[t, unit] for t, unit in enumerate(path)))
        found[text] = found.get(text, 0.0) + weight
    return found


def prefix_probability(log_probs_TV, prefix, blank=0):
    """How likely a text begins with `prefix`: algorithm 2 of Watanabe et al. (2017), frame by frame."""
    probs = np.exp(np.asarray(log_probs_TV, dtype=np.float64))
    # How likely the first t frames show the pieces so far and end in their last one, or in a blank.
    in_piece = np.zeros(len(probs) + 1)
    in_blank = np.concatenate(([1.0], np.cumprod(probs[:, blank])))
    total, last = 1.0, None
    for piece in prefix:
        total, new_piece, new_blank = 0.0, np.zeros_like(in_piece), np.zeros_like(in_blank)
        for t, frame in enumerate(probs):
            before = in_blank[t] + (0.0 if piece == last else in_piece[t])
            total += before * frame[piece]
            new_piece[t + 1] = (new_piece[t] + before) * frame[piece]
            new_blank[t + 1] = (new_blank[t] + new_piece[t]) * frame[blank]
        in_piece, in_blank, last = new_piece, new_blank, piece
    return total
