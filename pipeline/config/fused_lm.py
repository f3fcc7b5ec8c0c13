"""A language model of texts in the search."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from pipeline.config.section import Address, Section


class FusedLanguageModel(Section):
    """A language model of texts that takes part in the beam search (shallow fusion)."""

    path: Address | None = None
    """An ARPA file, which may be compressed (`.gz`); a binary of KenLM (`.bin`, `.binary`, `.klm`), if the
    package kenlm is installed; or a folder that `train-text-lm` wrote. `None` searches without a language
    model."""
    level: Literal["words", "pieces"] = "words"
    """Whether an n-gram model is over words, or over the ASR model's pieces of text, with `▁` for a
    space. Other models know by themselves."""
    weight: Annotated[float, Field(ge=0, le=100)] = 0.5
    """What its log-probabilities count in a text's score."""

    @model_validator(mode="after")
    def _readable(self) -> Self:
        if self.level == "pieces" and self.is_kenlm:
            raise ValueError(
                "a binary of KenLM is read as a model of words: name the ARPA file for level pieces"
            )
        if self.is_kenlm and "://" in (self.path or ""):
            raise ValueError(
                f"{self.path}: the package kenlm opens local files alone: download the binary and name "
                "its path, or name the ARPA file"
            )
        return self

    @property
    def is_kenlm(self) -> bool:
        return (self.path or "").endswith((".bin", ".binary", ".klm"))
