"""How well a language model foresees units, in figures that compare across vocabularies.

Pieces of different vocabularies, and units of different codebooks, say more or less each. What they
say about the same speech is compared by the second: -log2 p of all that was said, over its duration
(as bits a character are, of text). It measures how predictable the units are, not how good: a codebook
of one unit needs no bit.
"""

import math
from collections.abc import Sequence

MOST_BITS = 1023.0  # that a 64-bit number can be two to the power of


def likelihood_scores(
    log_probs: Sequence[float], num_symbols: int, seconds: float
) -> dict[str, float]:
    """Scores of utterances with the natural log-probabilities `log_probs`, which last `seconds`.

    `num_symbols` counts their units or pieces, and their ends.

    Returns:
        `lm_bits_per_second`: -sum of log2 p / seconds. `lm_perplexity`: exp(-sum of log p /
        num_symbols), that of a piece. `lm_perplexity_per_second`: 2^`lm_bits_per_second`, how many
        equally likely ways there are, as it were, to say a second. `lm_symbols_per_second`.

    Raises:
        ValueError: there is no utterance, or it takes no time.
    """
    if not num_symbols or not seconds > 0:
        raise ValueError("no utterance was scored: the split has no units")
    nats = -math.fsum(log_probs)
    bits_per_second = nats / math.log(2) / seconds
    return {
        "lm_bits_per_second": bits_per_second,
        "lm_perplexity": math.exp(nats / num_symbols),
        "lm_perplexity_per_second": 2.0 ** min(bits_per_second, MOST_BITS),
        "lm_symbols_per_second": num_symbols / seconds,
    }
