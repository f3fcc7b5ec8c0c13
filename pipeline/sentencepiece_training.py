"""Training of a SentencePiece model (Kudo and Richardson, 2018), the same for text and for units."""

import io
import re
from collections.abc import Iterable
from typing import Any


class VocabularyError(ValueError):
    """The lines do not allow a vocabulary of this size; its text is what SentencePiece says."""

    def allowed(self, each_character: str, *, unknown: int = 0) -> str:
        """The nearest size that is allowed, or SentencePiece's words where they name none.

        Args:
            each_character: what the least size has a piece for, to end "or more, …".
            unknown: 1 where the size that users set does not count the piece "unknown".
        """
        problem = str(self)
        if most := re.search(r"value <= (\d+)", problem):
            return f"{int(most[1]) - unknown} or less"
        if least := re.search(r"smaller than required_chars\. \d+ vs (\d+)", problem):
            return f"{int(least[1]) - unknown} or more, {each_character}"
        return f"what it allows ({problem})"


def train_sentencepiece(
    lines: Iterable[str], num_pieces: int, model_type: str, **options: Any
) -> bytes:
    """The serialised model; piece 0 is "unknown", and no line begins or ends with a piece of its own.

    The same lines in the same order give the same model. `options` are SentencePiece's own.

    Raises:
        VocabularyError: `num_pieces`, which count "unknown", are too many or too few for the lines.
    """
    import sentencepiece

    model = io.BytesIO()
    try:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(lines),
            model_writer=model,
            vocab_size=num_pieces,
            model_type=model_type,
            character_coverage=1.0,
            normalization_rule_name="identity",
            unk_id=0,
            bos_id=-1,
            eos_id=-1,
            pad_id=-1,
            num_threads=1,  # several threads add their partial sums in any order
            minloglevel=2,
            **options,
        )
    except RuntimeError as error:
        raise VocabularyError(str(error)) from None
    return model.getvalue()
