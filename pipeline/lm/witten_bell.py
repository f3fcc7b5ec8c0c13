"""An n-gram model from texts, with interpolated Witten-Bell smoothing.

With N(c) the occurrences of a context c, and T(c) the different words that follow it,

    p(w | c) = (N(c w) + T(c) p(w | c without its first word)) / (N(c) + T(c))

(Witten and Bell, 1991; interpolated as in Chen and Goodman, 1998). Below single words lies the
uniform distribution over all words, <unk> and </s>. It needs no counts of counts, which a small
corpus has too few of for Kneser-Ney's discounts.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence

import numpy as np

from pipeline.lm.ngrams import BEGIN, END, UNKNOWN, Context, NGrams, Order

# <s> is never predicted; ARPA files give it this logarithm.
NOT_PREDICTED = -99 * np.log(10.0)


def estimate(sentences: Iterable[Sequence[str]], length: int) -> NGrams:
    """A model of n-grams of up to `length` words; each sentence begins and ends by itself.

    Raises:
        ValueError: there is no sentence, or a word that the format keeps for itself.
    """
    texts = [tuple(sentence) for sentence in sentences]
    if not texts:
        raise ValueError("there is no sentence to count")
    vocabulary = sorted({word for text in texts for word in text})
    if reserved := {BEGIN, END, UNKNOWN} & set(vocabulary):
        raise ValueError(
            f"{sorted(reserved)} have a meaning of their own: no sentence may hold them"
        )
    words = [BEGIN, END, UNKNOWN, *vocabulary]
    ids = {word: number for number, word in enumerate(words)}
    follow = _counts([tuple(ids[word] for word in (BEGIN, *text, END)) for text in texts], length)
    return NGrams(words, _orders(follow, len(words), length))


def _counts(sentences: Iterable[Context], length: int) -> dict[Context, Counter[int]]:
    """How often each word follows each context of up to `length - 1` words."""
    follow: defaultdict[Context, Counter[int]] = defaultdict(Counter)
    for sentence in sentences:
        for end in range(1, len(sentence)):
            for start in range(max(0, end - length + 1), end + 1):
                follow[sentence[start:end]][sentence[end]] += 1
    return follow


def _orders(follow: dict[Context, Counter[int]], size: int, length: int) -> list[Order]:
    """All n-grams that were counted, and every single word."""
    probs: dict[Context, float] = {(): 1 / (size - 1)}  # all but <s> may come
    keys: dict[Context, int] = {}
    orders = []
    listed: list[Context] = [(word,) for word in range(size)]
    for number in range(1, length + 1):
        if number > 1:
            contexts = [context for context in follow if len(context) == number - 1]
            listed = [(*context, word) for context in contexts for word in follow[context]]
        for ngram in listed:
            probs[ngram] = _interpolated(follow, ngram, probs[ngram[1:]])
        ranked = sorted(listed, key=lambda ngram: (keys.get(ngram[:-1], 0), ngram[-1]))
        orders.append(
            Order(
                np.array([keys.get(each[:-1], 0) * size + each[-1] for each in ranked], np.int64),
                np.array([_log_prob(each, probs) for each in ranked], np.float32),
                np.array([_log_backoff(follow, each) for each in ranked], np.float32),
            )
        )
        keys = {ngram: place for place, ngram in enumerate(ranked)}
    return orders


def _interpolated(
    follow: dict[Context, Counter[int]], ngram: Context, shorter_prob: float
) -> float:
    counts = follow[ngram[:-1]]
    kinds = len(counts)
    return (counts[ngram[-1]] + kinds * shorter_prob) / (counts.total() + kinds)


def _log_prob(ngram: Context, probs: dict[Context, float]) -> float:
    return NOT_PREDICTED if ngram == (0,) else float(np.log(probs[ngram]))


def _log_backoff(follow: dict[Context, Counter[int]], context: Context) -> float:
    """What is left of p for the shorter context; 0 of a context that nothing follows."""
    if context not in follow:
        return 0.0
    counts = follow[context]
    return float(np.log(len(counts) / (counts.total() + len(counts))))
