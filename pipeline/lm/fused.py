"""The language model that a config names for the search, and what identifies it. Without PyTorch at its top."""

import hashlib
from typing import TYPE_CHECKING

from pipeline.config import FusedLanguageModel
from pipeline.lm.arpa import LanguageModelError, read_arpa
from pipeline.storage.folders import Folder

if TYPE_CHECKING:
    from pipeline.asr.scorer import Weighted
    from pipeline.asr.text_pieces import TextPieces

READ_BYTES = 1 << 20


def fingerprint(settings: FusedLanguageModel) -> str:
    """SHA-256 of the file.

    Raises:
        LanguageModelError: there is no such file.
    """
    folder, name = Folder.around(settings.path or "")
    hasher = hashlib.sha256()
    try:
        with folder.open(name) as file:
            while block := file.read(READ_BYTES):
                hasher.update(block)
    except (FileNotFoundError, IsADirectoryError):
        raise LanguageModelError(
            f"asr_evaluation.language_model.path: {settings.path} is no file"
        ) from None
    return hasher.hexdigest()


def load(settings: FusedLanguageModel, pieces: "TextPieces") -> "tuple[Weighted, ...]":
    """The scorers of a search that writes `pieces`: one, or none without a language model.

    Raises:
        LanguageModelError: the model cannot be read, or does not suit the pieces.
    """
    from pipeline.asr.scorer import Weighted
    from pipeline.lm.kenlm_words import KenlmWords
    from pipeline.lm.piece_scorer import PieceScorer
    from pipeline.lm.word_scorer import WordScorer

    if settings.path is None:
        return ()
    if settings.is_kenlm:
        return (Weighted(WordScorer(KenlmWords(settings.path), pieces), settings.weight),)
    model = read_arpa(settings.path)
    scorer_class = WordScorer if settings.level == "words" else PieceScorer
    return (Weighted(scorer_class(model, pieces), settings.weight),)
