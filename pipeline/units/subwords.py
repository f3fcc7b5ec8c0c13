"""Units as subwords: SentencePiece over units, each of which is one character of its text.

ESPnet's recipes for discrete speech do the same (Chang et al., 2023): de-duplication, SentencePiece,
and in training another segmentation each time.
"""

import json
import random
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pipeline import config
from pipeline.metrics.units import deduplicate
from pipeline.sentencepiece_training import VocabularyError, train_sentencepiece
from pipeline.units.segmentation import drop_merges, sample_pieces

# Unit u is the character 0xF0000 + u: a plane of Unicode for private use, with room for 16 bits, in
# which nothing is a space, and no two characters are one to SentencePiece.
FIRST_CHARACTER = 0xF0000
NUM_CHARACTERS = 1 << 16
UNKNOWN = 0

DESCRIPTION = "config.json"
MODEL = "subwords.model"

# SentencePiece would leave out longer lines, of which it counts bytes: an hour of units has a million.
LONGEST_LINE = 1 << 30


class SubwordError(ValueError):
    """Subwords that cannot be made of these units."""


class Subwords(ABC):
    """From the units of an utterance to what an ASR model reads; `len` counts the ids.

    Id 0 stands for units that the training split has not.
    """

    FOLDER = "subwords"  # of the output of train_token_asr

    def __init__(self, *, deduplicated: bool) -> None:
        self.deduplicated = deduplicated

    @staticmethod
    def train(
        settings: config.TokenAsr | config.UnitLm, utterances: Iterable[ArrayLike]
    ) -> "Subwords":
        """The subwords of a training split; the same units in the same order give the same ones.

        Raises:
            SubwordError: there is no unit, or too little for the vocabulary.
        """
        shape = {"deduplicated": settings.deduplicate}
        rows = [_prepared(units, **shape) for units in utterances]
        if not any(map(len, rows)):
            raise SubwordError("the training split has no units: check corpus.splits.train")
        if settings.subwords.kind == "none":
            return SingleUnits(np.unique(np.concatenate(rows)).tolist(), **shape)
        model = _train_pieces(settings.subwords, rows)
        kind, sampling = settings.subwords.kind, settings.subwords.sampling
        return SentencePieces(model, kind, sampling, **shape)

    @staticmethod
    def load(folder: str | Path) -> "Subwords":
        """The subwords that `save` wrote into `folder`."""
        description = json.loads((Path(folder) / DESCRIPTION).read_text(encoding="utf-8"))
        shape = {"deduplicated": bool(description["deduplicate"])}
        if "units" in description:
            return SingleUnits(description["units"], **shape)
        model = (Path(folder) / MODEL).read_bytes()
        return SentencePieces(model, description["kind"], description["sampling"], **shape)

    def save(self, folder: str | Path) -> None:
        """Write the subwords into `folder`, which exists."""
        description = {"deduplicate": self.deduplicated, **self._description()}
        text = json.dumps(description, indent=2)
        (Path(folder) / DESCRIPTION).write_text(text, encoding="utf-8")

    def encode(self, units: ArrayLike, seed: int | None = None) -> NDArray[np.int64]:
        """Ids of one utterance's units, one for each frame; drawn with `seed`, or the best without."""
        return self._encode(_prepared(units, deduplicated=self.deduplicated), seed)

    @abstractmethod
    def decode(self, ids: Sequence[int]) -> NDArray[np.int64]:
        """The units that ids other than UNKNOWN stand for, with each run as one if it was read so."""

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def _encode(self, units_N: NDArray[np.int64], seed: int | None) -> NDArray[np.int64]: ...

    @abstractmethod
    def _description(self) -> dict[str, Any]: ...


class SingleUnits(Subwords):
    """Each unit by itself; `units` are those that are known, in rising order."""

    def __init__(self, units: Sequence[int], *, deduplicated: bool) -> None:
        super().__init__(deduplicated=deduplicated)
        self._ids_U = np.full(NUM_CHARACTERS, UNKNOWN, dtype=np.int64)
        self._units = list(units)
        self._ids_U[self._units] = np.arange(1, len(units) + 1)

    def decode(self, ids: Sequence[int]) -> NDArray[np.int64]:
        return np.array([self._units[one - 1] for one in ids], dtype=np.int64)

    def __len__(self) -> int:
        return len(self._units) + 1

    def _encode(self, units_N: NDArray[np.int64], seed: int | None) -> NDArray[np.int64]:  # noqa: ARG002
        ids_N: NDArray[np.int64] = self._ids_U[units_N]
        return ids_N

    def _description(self) -> dict[str, Any]:
        return {"units": self._units}


class SentencePieces(Subwords):
    """The pieces of a SentencePiece model, given as its serialised form; 0 is its "unknown".

    Args:
        model: the serialised model.
        kind: of the model, `bpe` or `unigram`.
        sampling: the share of merges dropped in a draw, or the exponent of its probabilities; 0 draws
            nothing.
    """

    def __init__(self, model: bytes, kind: str, sampling: float, *, deduplicated: bool) -> None:
        from sentencepiece import SentencePieceProcessor

        super().__init__(deduplicated=deduplicated)
        self._model, self._kind, self._sampling = model, kind, sampling
        self._processor = SentencePieceProcessor(model_proto=model)
        # Those of a BPE model were made in the order of their ids.
        ids = range(UNKNOWN + 1, len(self))
        self._ids = {self._processor.id_to_piece(one): one for one in ids}
        self._log_probs = {
            self._processor.id_to_piece(one): self._processor.get_score(one) for one in ids
        }

    def decode(self, ids: Sequence[int]) -> NDArray[np.int64]:
        text = "".join(self._processor.id_to_piece(one) for one in ids)
        return np.array([ord(character) - FIRST_CHARACTER for character in text], dtype=np.int64)

    def __len__(self) -> int:
        return int(self._processor.get_piece_size())

    def save(self, folder: str | Path) -> None:
        (Path(folder) / MODEL).write_bytes(self._model)
        super().save(folder)

    def _encode(self, units_N: NDArray[np.int64], seed: int | None) -> NDArray[np.int64]:
        text = _text(units_N)
        if seed is None or not self._sampling:
            return np.array(self._processor.encode(text), dtype=np.int64)
        return np.array(self._draw(text, seed), dtype=np.int64)

    def _draw(self, text: str, seed: int) -> list[int]:
        chance = random.Random(seed)  # noqa: S311 - a draw, no secret
        if self._kind == "bpe":
            pieces = drop_merges(text, self._ids, self._sampling, chance)
        else:
            pieces = sample_pieces(text, self._log_probs, self._sampling, chance)
        return [self._ids.get(piece, UNKNOWN) for piece in pieces]

    def _description(self) -> dict[str, Any]:
        return {"kind": self._kind, "sampling": self._sampling}


def _prepared(units: ArrayLike, *, deduplicated: bool) -> NDArray[np.int64]:
    units_N = np.asarray(units, dtype=np.int64)
    return deduplicate(units_N) if deduplicated else units_N


def _text(units_N: NDArray[np.int64]) -> str:
    return "".join(map(chr, (units_N + FIRST_CHARACTER).tolist()))


def _train_pieces(
    settings: config.Subwords | config.LmSubwords, utterances: Sequence[NDArray[np.int64]]
) -> bytes:
    lines, with_unknown = map(_text, utterances), settings.vocabulary_size + 1
    options = {"add_dummy_prefix": False, "max_sentence_length": LONGEST_LINE}
    try:
        return train_sentencepiece(lines, with_unknown, settings.kind, **options)
    except VocabularyError as error:
        raise SubwordError(
            f"SentencePiece cannot make {settings.vocabulary_size} subwords from the units of "
            f"{len(utterances)} utterances: set subwords.vocabulary_size to "
            f"{error.allowed('one for each unit', unknown=1)}"
        ) from None
