"""What the ASR model writes: characters or SentencePiece pieces, as integers.

Id 0 is the CTC blank, id 1 begins and ends every sentence for the decoder; pieces follow.
"""

import json
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pipeline import config
from pipeline.sentencepiece_training import VocabularyError, train_sentencepiece

BLANK = 0
SENTENCE_EDGE = 1
FIRST_PIECE = 2

# How SentencePiece writes a space.
SPACE_MARK = "\u2581"

# Stored models have these names.
DESCRIPTION = "text_units.json"
MODEL = "text_units.model"


class TextPieceError(ValueError):
    """A text or an id that the pieces do not cover, or pieces that cannot be made."""


class TextPieces(ABC):
    """The pieces of one trained ASR model; `len` counts them with the two special ids."""

    @staticmethod
    def train(settings: config.TextPieces, texts: Sequence[str]) -> "TextPieces":
        """The pieces of the training transcripts; the same texts give the same pieces.

        Raises:
            TextPieceError: there is no text, or too little for the requested vocabulary.
        """
        if not any(text.strip() for text in texts):
            raise TextPieceError(
                "the training split has no text to make pieces from: check corpus.splits.train"
            )
        if settings.kind == "characters":
            return Characters("".join(sorted(set("".join(texts)))))
        return SentencePieces.fit(texts, settings.vocabulary_size)

    @staticmethod
    def load(folder: str | Path) -> "TextPieces":
        """The pieces that `save` wrote into `folder`."""
        description = json.loads((Path(folder) / DESCRIPTION).read_text(encoding="utf-8"))
        if description["kind"] == "characters":
            return Characters(description["characters"])
        return SentencePieces((Path(folder) / MODEL).read_bytes())

    @abstractmethod
    def save(self, folder: str | Path) -> None:
        """Write the pieces into `folder`, which exists."""

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def encode(self, text: str) -> list[int]:
        """Ids of `text`, without sentence edges.

        Raises:
            TextPieceError: a character that is in no training transcript.
        """

    @abstractmethod
    def _join(self, ids: list[int]) -> str: ...

    @abstractmethod
    def spelling(self, piece: int) -> str:
        """What a piece adds to the text, with the spaces that it stands for: " he" of `▁he`."""

    @property
    def has_spaces(self) -> bool:
        """Whether any piece stands for white space."""
        pieces = range(FIRST_PIECE, len(self))
        return any(character.isspace() for piece in pieces for character in self.spelling(piece))

    def decode(self, ids: Sequence[int]) -> str:
        """The text of piece ids.

        Raises:
            TextPieceError: an id that stands for no piece, such as the blank.
        """
        for piece in ids:
            if not FIRST_PIECE <= piece < len(self):
                raise TextPieceError(
                    f"id {piece} stands for no piece of text: pieces go from {FIRST_PIECE} to "
                    f"{len(self) - 1}; remove blanks and sentence edges before decoding"
                )
        return self._join(list(ids))


class Characters(TextPieces):
    """One piece for each character; `characters` gives their order."""

    def __init__(self, characters: str) -> None:
        self.characters = characters
        self._ids = {character: i for i, character in enumerate(characters, FIRST_PIECE)}

    def __len__(self) -> int:
        return FIRST_PIECE + len(self.characters)

    def encode(self, text: str) -> list[int]:
        _reject_unknown(text, {character for character in text if character not in self._ids})
        return [self._ids[character] for character in text]

    def _join(self, ids: list[int]) -> str:
        return "".join(map(self.spelling, ids))

    def spelling(self, piece: int) -> str:
        return self.characters[piece - FIRST_PIECE]

    def save(self, folder: str | Path) -> None:
        _describe(folder, {"kind": "characters", "characters": self.characters})


class SentencePieces(TextPieces):
    """The pieces of a unigram SentencePiece model (Kudo, 2018), given as its serialised form.

    Piece 0 is SentencePiece's own "unknown", which is never written: piece p has the id p + 1.
    """

    def __init__(self, model: bytes) -> None:
        from sentencepiece import SentencePieceProcessor

        self.model = model
        self._processor = SentencePieceProcessor(model_proto=model)

    @classmethod
    def fit(cls, texts: Sequence[str], vocabulary_size: int) -> "SentencePieces":
        """Train on `texts`; `vocabulary_size` counts the pieces with "unknown"."""
        try:
            model = train_sentencepiece(texts, vocabulary_size, "unigram")
        except VocabularyError as error:
            raise TextPieceError(
                f"SentencePiece cannot make {vocabulary_size} pieces from {len(texts)} training "
                "transcripts: set asr.text.vocabulary_size to "
                f"{error.allowed('a piece for each character')}"
            ) from None
        return cls(model)

    def __len__(self) -> int:
        return int(self._processor.get_piece_size()) + FIRST_PIECE - 1

    def encode(self, text: str) -> list[int]:
        pieces = self._processor.encode(text)
        unknown = self._processor.unk_id()
        if unknown in pieces:
            known = {self._processor.id_to_piece(i) for i in range(len(self) - FIRST_PIECE + 1)}
            _reject_unknown(text, {c for c in text if not c.isspace() and c not in known})
        return [piece + FIRST_PIECE - 1 for piece in pieces]

    def _join(self, ids: list[int]) -> str:
        return str(self._processor.decode([piece - FIRST_PIECE + 1 for piece in ids]))

    def spelling(self, piece: int) -> str:
        shown = str(self._processor.id_to_piece(piece - FIRST_PIECE + 1))
        return shown.replace(SPACE_MARK, " ")

    def save(self, folder: str | Path) -> None:
        (Path(folder) / MODEL).write_bytes(self.model)
        _describe(folder, {"kind": "sentencepiece"})


def _describe(folder: str | Path, description: dict[str, Any]) -> None:
    text = json.dumps(description, indent=2, ensure_ascii=False)
    (Path(folder) / DESCRIPTION).write_text(text, encoding="utf-8")


def _reject_unknown(text: str, unknown: set[str]) -> None:
    if unknown:
        raise TextPieceError(
            f"characters in no training transcript: {sorted(unknown)} in {text!r}, so no piece "
            "covers them; normalise the text, or leave the utterance out"
        )
