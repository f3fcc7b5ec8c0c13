"""A causal transformer over the ASR model's pieces of text, stored with these pieces."""

from pathlib import Path
from typing import Self

from pipeline.asr.text_pieces import DESCRIPTION, FIRST_PIECE, SENTENCE_EDGE, TextPieces
from pipeline.config import CausalTransformer
from pipeline.lm.arpa import LanguageModelError
from pipeline.lm.causal_lm import CausalLm


class TextLm:
    """The transformer's symbols are the ids of `pieces`; SENTENCE_EDGE begins and ends a text."""

    def __init__(self, model: CausalLm, pieces: TextPieces) -> None:
        self.model, self.pieces = model, pieces

    @classmethod
    def build(cls, settings: CausalTransformer, pieces: TextPieces) -> Self:
        """A new model; random weights come from torch's global generator."""
        return cls(CausalLm.build(settings, len(pieces), SENTENCE_EDGE), pieces)

    def scorer(self, pieces: TextPieces) -> CausalLm:
        """The model as a `TextScorer` of a search that writes `pieces`.

        Raises:
            LanguageModelError: it was trained on others.
        """
        if _spelled(self.pieces) != _spelled(pieces):
            raise LanguageModelError(
                "the language model was trained on other pieces of text than the ASR model writes: "
                "train it with --pieces-of this ASR model"
            )
        return self.model

    def save_pretrained(self, folder: str | Path) -> None:
        """Write the transformer as transformers does, and the pieces."""
        self.model.save_pretrained(folder)
        self.pieces.save(folder)

    @classmethod
    def from_pretrained(cls, folder: str | Path) -> Self:
        """The model that `save_pretrained` wrote, in evaluation mode on the CPU.

        Raises:
            LanguageModelError: the folder holds something else.
        """
        if not (Path(folder) / DESCRIPTION).is_file():
            raise LanguageModelError(
                f"{folder} is no language model of texts: name a folder that train-text-lm wrote"
            )
        return cls(CausalLm.from_pretrained(folder), TextPieces.load(folder))


def _spelled(pieces: TextPieces) -> list[str]:
    return [pieces.spelling(piece) for piece in range(FIRST_PIECE, len(pieces))]
