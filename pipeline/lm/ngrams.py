"""A back-off n-gram model (Katz, 1987), as ARPA files hold it, in arrays. Logarithms are natural.

    log p(w | c) = log p of the n-gram c w, if it is listed; else backoff(c) + log p(w | c without its
    first word), where backoff(c) is 0 if c is not listed

A context is the longest end of what was read that is listed as an n-gram, as ids of words: the rest
changes no probability, because no n-gram is listed whose context is not.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Context = tuple[int, ...]
BEGIN, END, UNKNOWN = "<s>", "</s>", "<unk>"
# Of a word that the model does not list where it has no <unk> either.
NEVER = -100.0 * math.log(10.0)


@dataclass(frozen=True)
class Order:
    """The n-grams of one length, sorted: `keys` are (index of all words but the last) * V + last word.

    An n-gram's index is its place. Those of single words are their ids.
    """

    keys: npt.NDArray[np.int64]
    log_probs: npt.NDArray[np.float32]
    backoffs: npt.NDArray[np.float32]

    def find(self, key: int) -> int | None:
        place = int(np.searchsorted(self.keys, key))
        return place if place < len(self.keys) and self.keys[place] == key else None


class NGrams:
    """Probabilities of words after others; `orders` begin with the single words, by id."""

    def __init__(self, words: Sequence[str], orders: Sequence[Order]) -> None:
        self.words = words
        self.orders = orders
        self._ids = {word: number for number, word in enumerate(words)}
        self._unknown = self._ids.get(UNKNOWN, self._ids.get(UNKNOWN.upper()))
        self.end = self._ids[END]

    def begin(self) -> Context:
        """The context of a sentence's first word."""
        return (self._ids[BEGIN],)

    def id_of(self, word: str) -> int | None:
        """The id of a word, or else of <unk>; None if the model lists neither."""
        return self._ids.get(word, self._unknown)

    def __contains__(self, word: str) -> bool:
        return word in self._ids

    def score(self, context: Context, word: str) -> tuple[float, Context]:
        """Log p(word | context), and the context after it."""
        number = self.id_of(word)
        return self.log_prob(context, number), self.extend(context, number)

    def score_end(self, context: Context) -> float:
        """Log p(the sentence ends | context)."""
        return self.log_prob(context, self.end)

    def sample(self) -> Sequence[str]:
        """Some of the words."""
        ordinary = [word for word in self.words if not word.startswith("<")]
        return ordinary[:: max(1, len(ordinary) // 1000)]

    def log_prob(self, context: Context, word: int | None) -> float:
        """Log p(word | context), at most 0."""
        if word is None:
            return NEVER
        backoff = 0.0
        for start in range(len(context) + 1):
            order, place = self._find((*context[start:], word))
            if place is not None:
                return min(0.0, backoff + float(self.orders[order].log_probs[place]))
            backoff += self._backoff(context[start:])
        raise AssertionError(f"word {word} is no single word of the model")

    def log_probs(self, context: Context) -> npt.NDArray[np.float32]:
        """Log p(word | context) of every word (V,)."""
        if not context:
            return self.orders[0].log_probs.copy()
        log_probs = self.log_probs(context[1:]) + np.float32(self._backoff(context))
        order, place = self._find(context)
        if place is not None and order + 1 < len(self.orders):
            longer, size = self.orders[order + 1], len(self.words)
            low, high = np.searchsorted(longer.keys, [place * size, (place + 1) * size])
            log_probs[longer.keys[low:high] - place * size] = longer.log_probs[low:high]
        return log_probs.clip(max=0.0)

    def extend(self, context: Context, word: int | None) -> Context:
        """The context after one more word."""
        if word is None:
            return ()
        read = (*context, word)[-(len(self.orders) - 1) :] if len(self.orders) > 1 else ()
        while read and self._find(read)[1] is None:
            read = read[1:]
        return read

    def _backoff(self, context: Context) -> float:
        if not context:
            return 0.0
        order, place = self._find(context)
        return 0.0 if place is None else float(self.orders[order].backoffs[place])

    def _find(self, ngram: Context) -> tuple[int, int | None]:
        """Where the n-gram is listed: its order's place in `orders`, and its own there."""
        place = ngram[0]
        for order, word in zip(self.orders[1:], ngram[1:], strict=False):
            found = order.find(place * len(self.words) + word)
            if found is None:
                return len(ngram) - 1, None
            place = found
        return len(ngram) - 1, place
