"""The language model that a config names for the search, and what identifies it. Without PyTorch at its top."""

import hashlib
from typing import TYPE_CHECKING, Any

from pipeline.config import FusedLanguageModel, digest
from pipeline.lm.arpa import LanguageModelError, read_arpa
from pipeline.storage.artifacts import Artifact
from pipeline.storage.folders import Folder

if TYPE_CHECKING:
    import torch

    from pipeline.asr.scorer import TextScorer, Weighted
    from pipeline.asr.text_pieces import TextPieces

READ_BYTES = 1 << 20


def fingerprint(settings: FusedLanguageModel) -> str:
    """SHA-256 of the file, or of a folder's files with their names.

    Raises:
        LanguageModelError: there is no such file.
    """
    folder, name = Folder.around(settings.path or "")
    within = Folder.at(settings.path or "")
    files = [f"{name}/{each}" for each in within.files()] if within.is_folder() else [name]
    try:
        digests = [_sha256(folder, each) for each in files]
    except (FileNotFoundError, IsADirectoryError):
        raise LanguageModelError(
            f"asr_evaluation.language_model.path: {settings.path} is no file"
        ) from None
    inner = [each.removeprefix(f"{name}/") for each in files]
    if len(files) == 1:
        return digests[0]
    return digest(dict(zip(inner, digests, strict=True)))


def _sha256(folder: Folder, name: str) -> str:
    hasher = hashlib.sha256()
    with folder.open(name) as file:
        while block := file.read(READ_BYTES):
            hasher.update(block)
    return hasher.hexdigest()


def load(
    settings: FusedLanguageModel, pieces: "TextPieces", device: "torch.device | str" = "cpu"
) -> "tuple[Weighted, ...]":
    """The scorers of a search that writes `pieces`: one, or none without a language model.

    Raises:
        LanguageModelError: the model cannot be read, or does not suit the pieces.
    """
    from pipeline.asr.scorer import Weighted

    if settings.path is None:
        return ()
    return (Weighted(_scorer(settings, settings.path, pieces, device), settings.weight),)


def _scorer(
    settings: FusedLanguageModel, path: str, pieces: "TextPieces", device: "torch.device | str"
) -> "TextScorer[Any]":
    from pipeline.lm.kenlm_words import KenlmWords
    from pipeline.lm.piece_scorer import PieceScorer
    from pipeline.lm.text_lm import TextLm
    from pipeline.lm.word_scorer import WordScorer

    if Folder.at(path).is_folder():
        parent, name = Folder.around(path)
        with Artifact(parent.uri).read_folder(name) as local:
            return TextLm.from_pretrained(local).scorer(pieces).to(device)
    if settings.is_kenlm:
        return WordScorer(KenlmWords(path), pieces)
    scorer_class = WordScorer if settings.level == "words" else PieceScorer
    return scorer_class(read_arpa(path), pieces)
