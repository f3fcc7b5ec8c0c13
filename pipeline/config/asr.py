"""The ASR model, and how it decodes."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from pipeline.config.fused_lm import FusedLanguageModel
from pipeline.config.section import (
    UNLESS_DEFAULT,
    Depth,
    Exactly,
    Part,
    Seconds,
    Section,
    Share,
    Temperature,
    Width,
)


class TextPieces(Section):
    """The pieces of text that the ASR model writes."""

    kind: Literal["characters", "sentencepiece"] = "characters"
    """Single characters, or sentencepiece (a unigram model trained on the training texts)."""
    vocabulary_size: Annotated[int, Field(ge=2, le=1_000_000)] = 500
    """`sentencepiece` only: the number of pieces."""


class TimeMasking(Section):
    """SpecAugment in time only, on the encoder's input, in training."""

    masks: Annotated[int, Field(ge=0, le=1000)] = 2
    """Masked spans in each utterance; 0 masks nothing."""
    max_share: Share = 0.05
    """The largest share of an utterance's frames that one span masks."""


class WidthMasking(Section):
    """SpecAugment across an embedding's values, in training: each mask hides neighbouring values from
    the first frame of an utterance to its last.

    Those of an embedding are no neighbouring frequencies, so what a spectrum's frequency masks teach,
    to do without a band, these cannot; they are dropout that no other frame makes up for.
    """

    masks: Annotated[int, Field(ge=0, le=1000)] = 0
    """Masked spans in each utterance; 0 masks nothing."""
    max_share: Share = 0.1
    """The largest share of `embedding_dim` that one span masks."""


class EBranchformer(Section):
    """Widths that the E-Branchformer alone has."""

    cgmlp_dim: Width = 256
    """Width inside the convolutional gating MLP, half of which is the gate."""
    merge_kernel: Width = 15
    """Kernel of the convolution that merges the two branches, in encoded frames."""

    @model_validator(mode="after")
    def _shapes(self) -> Self:
        if self.cgmlp_dim % 2:
            raise ValueError("cgmlp_dim must be even, as half of it is the gate")
        if self.merge_kernel % 2 == 0:
            raise ValueError("merge_kernel must be odd, so that frames stay centred")
        return self


class Asr(Section):
    """Conformer or E-Branchformer encoder, Transformer decoder, c * CTC + (1 - c) * attention."""

    text: TextPieces = TextPieces()
    embedding_dim: Width = 128
    """Width of the embedding of a unit, or of the projected features."""
    dim: Width = 128
    """Width of encoder and decoder."""
    heads: Width = 4
    """Attention heads; they divide `dim`."""
    feedforward_dim: Width = 256
    """Width inside the feed-forward blocks."""
    encoder: Annotated[Literal["conformer", "e_branchformer"], UNLESS_DEFAULT] = "conformer"
    """The encoder's layers: Conformer (Gulati et al., 2020) or E-Branchformer (Kim et al., 2022)."""
    positions: Annotated[Literal["sinusoidal", "relative"], UNLESS_DEFAULT] = "sinusoidal"
    """How the encoder knows the order of frames: by sinusoids added to them, or by attention that reads
    how far apart two frames are (Dai et al., 2019)."""
    encoder_layers: Depth = 2
    """Layers of the encoder."""
    decoder_layers: Depth = 1
    """Transformer decoder layers."""
    decoder_feedforward_dim: Width | None = None
    """Width inside the decoder's feed-forward blocks; `None` takes `feedforward_dim`."""
    conv_kernel: Width = 15
    """Kernel of the Conformer's convolution, or of the E-Branchformer's gate, in encoded frames."""
    e_branchformer: Annotated[EBranchformer, UNLESS_DEFAULT] = EBranchformer()
    subsampling: Annotated[Literal[1, 2, 4], Exactly] = 2
    """How many frames become one before the encoder."""
    dropout: Part = 0.1
    """Dropout in encoder and decoder."""
    ctc_weight: Share = 0.3
    """The weight c of the CTC loss in training."""
    label_smoothing: Part = 0.1
    """Label smoothing of the attention loss."""
    time_masking: TimeMasking = TimeMasking()
    width_masking: Annotated[WidthMasking, UNLESS_DEFAULT] = WidthMasking()

    @model_validator(mode="after")
    def _shapes(self) -> Self:
        if self.dim % self.heads:
            raise ValueError(f"dim {self.dim} must be a multiple of heads {self.heads}")
        if self.conv_kernel % 2 == 0:
            raise ValueError("conv_kernel must be odd, so that frames stay centred")
        return self


class AsrEvaluation(Section):
    """The joint beam search, and how the test splits are decoded."""

    beam_size: Annotated[int, Field(ge=1, le=10_000)] = 8
    """Hypotheses that the beam search keeps."""
    ctc_weight: Share = 0.4
    """The weight of the CTC score in the search."""
    length_bonus: Annotated[float, Field(ge=0, le=100), UNLESS_DEFAULT] = 0.0
    """What each piece adds to a text's score in the search; above 0, the search ends later."""
    language_model: Annotated[FusedLanguageModel, UNLESS_DEFAULT] = FusedLanguageModel()
    nbest: Annotated[int, Field(ge=1, le=10_000), UNLESS_DEFAULT] = 1
    """How many of an utterance's best texts the search gives; above 1, all are stored."""
    max_length_share: Annotated[float, Field(gt=0, le=100)] = 1.0
    """The longest text, in pieces for each encoded frame."""
    batch_seconds: Seconds = 120.0
    """Audio that is encoded at once."""
    assignment: Annotated[Literal["hard", "soft"], UNLESS_DEFAULT] = "hard"
    """What a model that was trained on units reads: the nearest unit of each frame (`hard`), or a mixture of
    all units (`soft`), whose weights are softmax(-||s - mu_j|| / tau)."""
    soft_tau: Annotated[Temperature | None, UNLESS_DEFAULT] = None
    """The temperature tau of `soft`; `None` takes the one with the fewest word errors on the validation
    split."""
