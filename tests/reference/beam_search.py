"""Joint CTC/attention decoding by trying every text there is."""

import itertools
import math


def best_text(pieces, max_pieces, ctc_weight, log_p_ctc, log_p_attention):
    """The text (tuple of pieces) of at most `max_pieces` with the highest joint score.

    `log_p_ctc(text)` and `log_p_attention(text)` score complete texts, the sentence's end included.
    """
    best, best_score = None, -math.inf
    for length in range(max_pieces + 1):
        for text in itertools.product(pieces, repeat=length):
            score = ctc_weight * log_p_ctc(text) + (1 - ctc_weight) * log_p_attention(text)
            if score > best_score:
                best, best_score = text, score
    return best
