"""A model of words in KenLM's own binary format, if the package kenlm is installed."""

from collections.abc import Sequence
from typing import Any

from pipeline.lm.arpa import LN_10, LanguageModelError
from pipeline.lm.ngrams import END


def require_kenlm(path: str) -> None:
    """Refuse a binary of KenLM where the package that reads it is not installed.

    Raises:
        LanguageModelError: it is not.
    """
    try:
        import kenlm  # noqa: F401 (only whether it can be imported)
    except ImportError:
        raise LanguageModelError(
            f"{path} is read by the package kenlm, which is not installed: pip install kenlm, or "
            "name the ARPA file"
        ) from None


class KenlmWords:
    """A `WordModel`; KenLM keeps the file on the disk and reads of it what it needs."""

    def __init__(self, path: str) -> None:
        """Open a local file.

        Raises:
            LanguageModelError: kenlm is not installed, or cannot read the file.
        """
        require_kenlm(path)
        import kenlm

        self._new_state = kenlm.State
        try:
            self._model = kenlm.Model(path)
        except (OSError, RuntimeError) as error:
            raise LanguageModelError(f"{path} cannot be read by kenlm: {error}") from None

    def begin(self) -> Any:
        """The context of a sentence's first word."""
        state = self._new_state()
        self._model.BeginSentenceWrite(state)
        return state

    def score(self, context: Any, word: str) -> tuple[float, Any]:
        """Log p(word | context), and the context after it."""
        after = self._new_state()
        log_prob = LN_10 * self._model.BaseScore(context, word, after)
        return min(0.0, log_prob), after

    def score_end(self, context: Any) -> float:
        """Log p(the sentence ends | context)."""
        return self.score(context, END)[0]

    def sample(self) -> Sequence[str]:
        """KenLM does not tell its words."""
        return ()
