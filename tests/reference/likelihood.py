"""Bits a second of a language model, a symbol at a time."""

import math


def bits_per_second(probabilities, seconds):
    """`probabilities` are those of each symbol and end of each utterance; `seconds` theirs."""
    bits = 0.0
    for of_utterance in probabilities:
        for probability in of_utterance:
            bits += math.log2(1 / probability)
    return bits / sum(seconds)


def perplexity(probabilities):
    """The geometric mean of 1 / p over symbols and ends."""
    product, number = 1.0, 0
    for of_utterance in probabilities:
        for probability in of_utterance:
            product /= probability
            number += 1
    return product ** (1 / number)
