"""How a language model takes part in the beam search (shallow fusion).

A search over B utterances with N hypotheses each asks a `TextScorer` about all R = B * N texts at
once: `begin` gives the state of R empty texts, `step` reads the newest piece of each text and says
how likely each next piece is, and a state's `take` follows the search when it keeps some texts,
drops others and continues one text in several ways. A text that the search keeps has the score

    c log p_ctc + (1 - c) log p_attention + sum of weight * log p_scorer + length_bonus * pieces

where a scorer's log p is the sum over the text's pieces and its end. A scorer works with the ids of
the ASR model's pieces of text, so one over words says 0 within a word and the word's log-probability
where the word ends.
"""

from dataclasses import dataclass
from typing import Any, Protocol, Self, TypeVar

import torch
from torch import Tensor


class TextState(Protocol):
    """What a scorer knows of R texts."""

    def take(self, rows_R: Tensor) -> Self:
        """The state of the texts at `rows_R`, which may leave some out and repeat others."""
        ...


State = TypeVar("State", bound=TextState)


class TextScorer(Protocol[State]):
    """Log-probabilities of what follows a text, whatever was said."""

    def begin(self, num_texts: int, device: torch.device) -> State:
        """The state of `num_texts` texts of which nothing was read yet."""
        ...

    def step(self, pieces_R: Tensor, state: State) -> tuple[Tensor, State]:
        """Read one more piece of each text, which is SENTENCE_EDGE at first and never again.

        Returns:
            R x V natural logarithms on the device of `pieces_R`: of each piece of text as the next,
            and, at SENTENCE_EDGE, of the text's end. The blank's column is not read. None may be
            above 0: the search relies on it that no text is likelier than its beginning. `state`
            stays as it is.
        """
        ...


@dataclass(frozen=True)
class Weighted:
    """A scorer, and what its log-probabilities count in the search (0 or more)."""

    scorer: TextScorer[Any]
    weight: float
