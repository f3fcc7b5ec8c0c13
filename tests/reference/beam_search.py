"""Joint CTC/attention decoding by trying every text there is."""

import itertools
import math


def best_text(units, max_units, ctc_weight, log_p_ctc, log_p_attention):
    """The text (tuple of units) of at most `max_units` with the highest joint score.

    `log_p_ctc(text)` and `log_p_attention(text)` score whole texts, the sentence's end included.
    """
    best, best_score = None, -math.inf
    for length in range(max_units + 1):
        for text in itertools.product(units, repeat=length):
            score = ctc_weight * log_p_ctc(text) + (1 - ctc_weight) * log_p_attention(text)
            if score > best_score:
                best, best_score = text, score
    return best
