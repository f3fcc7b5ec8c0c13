"""An n-gram model of the ASR model's own pieces of text in the beam search."""

from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from pipeline.asr.text_pieces import FIRST_PIECE, SENTENCE_EDGE, SPACE_MARK, TextPieces
from pipeline.lm.arpa import LanguageModelError
from pipeline.lm.ngrams import NEVER, Context, NGrams

CACHED_CONTEXTS = 1 << 13


def written(pieces: TextPieces, piece: int) -> str:
    """A piece as a word of an ARPA file, in which no word holds a space: `▁he`, `▁` for a space alone."""
    return "".join(SPACE_MARK if c.isspace() else c for c in pieces.spelling(piece))


@dataclass(frozen=True)
class PieceState:
    """The contexts of R texts."""

    contexts: tuple[Context, ...]

    def take(self, rows_R: Tensor) -> "PieceState":
        return PieceState(tuple(self.contexts[row] for row in rows_R.tolist()))


class PieceScorer:
    """A `TextScorer`: log p(piece | pieces before), and that of </s> for the text's end."""

    def __init__(self, model: NGrams, pieces: TextPieces) -> None:
        """The model's words are the pieces as `written`.

        Raises:
            LanguageModelError: it lacks more than half of them.
        """
        self._model = model
        names = [written(pieces, piece) for piece in range(FIRST_PIECE, len(pieces))]
        if 2 * sum(name in model for name in names) < len(names):
            raise LanguageModelError(
                "the language model lacks most of the ASR model's pieces, such as "
                f"'{next(name for name in names if name not in model)}': is it a model of words "
                "(level: words), or of other pieces?"
            )
        self._ids: list[int | None] = [None] * FIRST_PIECE
        self._ids += [model.id_of(name) for name in names]
        self._ids[SENTENCE_EDGE] = model.end
        self._row = lru_cache(CACHED_CONTEXTS)(self._log_probs)

    def begin(self, num_texts: int, device: torch.device) -> PieceState:  # noqa: ARG002
        # What is read first is the edge, which leads to the beginning.
        return PieceState(((),) * num_texts)

    def step(self, pieces_R: Tensor, state: PieceState) -> tuple[Tensor, PieceState]:
        """See `TextScorer`."""
        contexts = tuple(
            self._model.begin()
            if piece == SENTENCE_EDGE
            else self._model.extend(context, self._ids[piece])
            for context, piece in zip(state.contexts, pieces_R.tolist(), strict=True)
        )
        log_probs_RV = torch.stack([self._row(context) for context in contexts])
        return log_probs_RV.to(pieces_R.device), PieceState(contexts)

    def _log_probs(self, context: Context) -> Tensor:
        all_words = torch.from_numpy(self._model.log_probs(context))
        return torch.stack(
            [
                torch.tensor(NEVER, dtype=torch.float32) if number is None else all_words[number]
                for number in self._ids
            ]
        )
