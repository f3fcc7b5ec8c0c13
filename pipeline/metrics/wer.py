"""Word and character error rates."""

from collections.abc import Sequence
from dataclasses import dataclass

import jiwer


@dataclass(frozen=True)
class ErrorCounts:
    """Errors of hypotheses against references in an alignment with fewest errors, counted in words."""

    substitutions: int = 0
    insertions: int = 0
    deletions: int = 0
    hits: int = 0

    @property
    def reference_words(self) -> int:
        return self.hits + self.substitutions + self.deletions

    @property
    def errors(self) -> int:
        return self.substitutions + self.insertions + self.deletions

    @property
    def wer(self) -> float:
        """Errors per reference word; above 1 if there are many insertions.

        Raises:
            ValueError: there is no reference word to divide by.
        """
        if self.reference_words == 0:
            raise ValueError("an error rate needs at least one reference word")
        return self.errors / self.reference_words

    def __add__(self, other: "ErrorCounts") -> "ErrorCounts":
        return ErrorCounts(
            self.substitutions + other.substitutions,
            self.insertions + other.insertions,
            self.deletions + other.deletions,
            self.hits + other.hits,
        )


def score_each(references: Sequence[str], hypotheses: Sequence[str]) -> list[ErrorCounts]:
    """The counts of each utterance; words are separated by white space.

    Raises:
        ValueError: the two sequences differ in length.
    """
    pairs = zip(references, hypotheses, strict=True)
    counts = [jiwer.process_words(reference, hypothesis) for reference, hypothesis in pairs]
    return [
        ErrorCounts(each.substitutions, each.insertions, each.deletions, each.hits)
        for each in counts
    ]


def score(references: Sequence[str], hypotheses: Sequence[str]) -> ErrorCounts:
    """The counts over all utterances."""
    return sum(score_each(references, hypotheses), ErrorCounts())


def cer(references: Sequence[str], hypotheses: Sequence[str]) -> float:
    """Character errors per reference character, spaces between words included."""
    return float(jiwer.cer(list(references), list(hypotheses)))


def character_errors(reference: str, hypothesis: str) -> tuple[int, int]:
    """Character errors, and how many characters the reference has, spaces between words included."""
    counts = jiwer.process_characters(reference, hypothesis)
    errors = counts.substitutions + counts.insertions + counts.deletions
    return errors, counts.hits + counts.substitutions + counts.deletions
