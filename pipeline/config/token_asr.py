"""ASR from stored tokens alone: what is made of the units, the ASR model, and its training."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from pipeline.config.asr import Asr
from pipeline.config.section import Exactly, Part, Section
from pipeline.config.training import Phase


class Segmentation(Section):
    """What a model reads in the place of single units: strings of units that are common."""

    kind: Literal["none", "bpe", "unigram"] = "bpe"
    """A SentencePiece model of the training split's units, `bpe` (Sennrich et al., 2016) or `unigram`
    (Kudo, 2018); or `none`, which reads unit by unit."""
    vocabulary_size: Annotated[int, Field(ge=2, le=1_000_000)] = 500
    """`bpe` and `unigram`: the number of subwords. Each unit of the training split is one."""


class Subwords(Segmentation):
    """Subwords that in training are cut otherwise each time."""

    sampling: Part = 0.1
    """In training, units are cut into other subwords in each epoch. `bpe`: BPE dropout (Provilkov et
    al., 2020), which skips each merge with this probability. `unigram`: a way to cut them is drawn
    with its probability to the power of this. 0 always cuts as in evaluation."""


class TokenAsrModel(Asr):
    """The keys of `asr`, of the model that reads stored tokens."""

    subsampling: Annotated[Literal[1, 2, 4], Exactly] = 1
    """How many subwords become one before the encoder: de-duplicated and joined, they are few."""


class TokenAsr(Section):
    """ASR that is trained from tokens as `tokenize_corpus` stores them, without audio or SSL model.

    What is not said here is as in `training`, with one such model for each of `training.seeds`.
    """

    enabled: bool = False
    """Train it, and evaluate it in the place of the joint training's ASR model. Tokens that others
    made (`corpus.kind: tokens`) are for nothing else, and need not say so."""
    deduplicate: bool = True
    """Read each run of one unit as one."""
    subwords: Subwords = Subwords()
    asr: TokenAsrModel = TokenAsrModel()
    phases: tuple[Phase, ...] = (Phase(epochs=48),)
    """The phases of its training, as in `training.phases`; their learning rate is that of `asr`."""

    @model_validator(mode="after")
    def _phases(self) -> Self:
        if not self.phases:
            raise ValueError("training needs at least one phase")
        if any(phase.ssl == "finetuned" for phase in self.phases):
            raise ValueError(
                "stored tokens leave no SSL model to train: set ssl to 'frozen' in each of its phases"
            )
        return self
