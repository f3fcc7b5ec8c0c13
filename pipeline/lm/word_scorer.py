"""A language model of words in the beam search: a word's score falls due when the word is complete."""

from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple

import torch
from torch import Tensor

from pipeline.asr.text_pieces import FIRST_PIECE, SENTENCE_EDGE, TextPieces
from pipeline.lm.arpa import LanguageModelError
from pipeline.lm.word_model import WordModel

CACHED_WORDS = 1 << 16


class Begun(NamedTuple):
    """A text so far: the model's context of its complete words, and the letters of the last one."""

    context: Any
    letters: str


@dataclass(frozen=True)
class WordState:
    """R texts."""

    texts: tuple[Begun, ...]

    def take(self, rows_R: Tensor) -> "WordState":
        return WordState(tuple(self.texts[row] for row in rows_R.tolist()))


class WordScorer:
    """A `TextScorer`: 0 within a word, log p(word | words before) where a space or the end completes it.

    The end adds log p(</s>). So a text's sum is its log-probability by the model, whatever the pieces.
    """

    def __init__(self, model: WordModel, pieces: TextPieces) -> None:
        """Words are the model's, as `pieces` spell them, capitals included.

        Raises:
            LanguageModelError: a piece holds a space within, so words end inside it; or the pieces
                cannot spell the model's words.
        """
        self._model = model
        ids = range(FIRST_PIECE, len(pieces))
        self._spelling = ["", *[""] * (FIRST_PIECE - 1), *(pieces.spelling(piece) for piece in ids)]
        if inner := [
            each for each in self._spelling if len(each.split()) > 1 or each != each.rstrip() != ""
        ]:
            raise LanguageModelError(
                f"the piece {inner[0]!r} ends a word within: a language model of words needs pieces "
                "that do not; use one of pieces"
            )
        _require_spelled(model, {letter for each in self._spelling for letter in each})
        self._begins_word_V = torch.tensor([each[:1].isspace() for each in self._spelling])
        self._completed = lru_cache(CACHED_WORDS)(self._complete)

    def begin(self, num_texts: int, device: torch.device) -> WordState:  # noqa: ARG002
        return WordState((Begun(self._model.begin(), ""),) * num_texts)

    def step(self, pieces_R: Tensor, state: WordState) -> tuple[Tensor, WordState]:
        """See `TextScorer`."""
        pieces = pieces_R.tolist()
        texts = [self._read(begun, piece) for begun, piece in zip(state.texts, pieces, strict=True)]
        completed = [self._completed(begun) for begun in texts]
        words_R = torch.tensor([log_prob for _, log_prob, _ in completed])
        ends_R = torch.tensor([log_prob + end for _, log_prob, end in completed])
        log_probs_RV = torch.where(self._begins_word_V, words_R[:, None], 0.0)
        log_probs_RV[:, SENTENCE_EDGE] = ends_R
        return log_probs_RV.to(pieces_R.device), WordState(tuple(texts))

    def _read(self, begun: Begun, piece: int) -> Begun:
        spelling = self._spelling[piece]
        if not spelling[:1].isspace():
            return Begun(begun.context, begun.letters + spelling)
        return Begun(self._completed(begun)[0], spelling.strip())

    def _complete(self, begun: Begun) -> tuple[Any, float, float]:
        """The context after the last word, log p of this word, and log p of the end after it."""
        context, log_prob = begun.context, 0.0
        if begun.letters:
            log_prob, context = self._model.score(context, begun.letters)
        return context, log_prob, self._model.score_end(context)


def _require_spelled(model: WordModel, letters: set[str]) -> None:
    """Refuse a model in other letters than the pieces, which would know no word."""
    words = model.sample()
    spelled = [word for word in words if letters.issuperset(word)]
    if words and len(spelled) < len(words) / 2:
        example = next(word for word in words if word not in spelled)
        raise LanguageModelError(
            f"the ASR model cannot write most of the language model's words, such as '{example}': it "
            f"writes {''.join(sorted(letters)).strip()!r}. Is the one in capitals, or is it a model of "
            "pieces (level: pieces)?"
        )
