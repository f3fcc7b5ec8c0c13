"""What a language model of words can say, whoever made it."""

from collections.abc import Sequence
from typing import Any, Protocol


class WordModel(Protocol):
    """Natural logarithms, at most 0. A context is hashable, and stays as it is."""

    def begin(self) -> Any:
        """The context of a sentence's first word."""
        ...

    def score(self, context: Any, word: str) -> tuple[float, Any]:
        """Log p(word | context), that of <unk> if the model lacks the word, and the next context."""
        ...

    def score_end(self, context: Any) -> float:
        """Log p(the sentence ends | context)."""
        ...

    def sample(self) -> Sequence[str]:
        """Some of the words that the model knows; none if it does not tell."""
        ...
