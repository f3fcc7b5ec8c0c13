"""What a model heard beside what was said, with the errors marked."""

from dataclasses import dataclass

import jiwer


@dataclass(frozen=True)
class Part:
    """Words said and words heard in their place, the same unless it is an error; either may be empty."""

    said: str
    heard: str

    @property
    def is_error(self) -> bool:
        return self.said != self.heard


@dataclass(frozen=True)
class Transcript:
    """The parts in their order; errors are counted in words, as a word error rate counts them."""

    parts: list[Part]
    errors: int
    words: int


def transcript(reference: str, hypothesis: str) -> Transcript:
    """Both texts in an alignment with fewest errors; words are separated by white space."""
    said, heard = reference.split(), hypothesis.split()
    if not said:  # of which no error rate can be made
        return Transcript([Part("", " ".join(heard))] if heard else [], len(heard), 0)
    found = jiwer.process_words(reference, hypothesis)
    parts = [
        Part(
            " ".join(said[chunk.ref_start_idx : chunk.ref_end_idx]),
            " ".join(heard[chunk.hyp_start_idx : chunk.hyp_end_idx]),
        )
        for chunk in found.alignments[0]
    ]
    errors = found.substitutions + found.insertions + found.deletions
    return Transcript(parts, errors, len(said))
