"""The ASR model, and how it decodes."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from pipeline.config.section import Count, Positive, Section, Share


class TextPieces(Section):
    """The pieces of text that the ASR model writes."""

    kind: Literal["characters", "sentencepiece"] = "characters"
    """Single characters, or sentencepiece (a unigram model trained on the training texts)."""
    vocabulary_size: Count = 500
    """`sentencepiece` only: the number of pieces."""


class TimeMasking(Section):
    """SpecAugment in time only, on the encoder's input, in training."""

    masks: Annotated[int, Field(ge=0)] = 2
    """Masked spans in each utterance; 0 masks nothing."""
    max_share: Share = 0.05
    """The largest share of an utterance's frames that one span masks."""


class Asr(Section):
    """Conformer encoder, Transformer decoder, c * CTC + (1 - c) * attention."""

    text: TextPieces = TextPieces()
    embedding_dim: Count = 128
    """Width of the embedding of a unit, or of the projected features."""
    dim: Count = 128
    """Width of encoder and decoder."""
    heads: Count = 4
    """Attention heads; they divide `dim`."""
    feedforward_dim: Count = 256
    """Width inside the feed-forward blocks."""
    encoder_layers: Count = 2
    """Conformer layers."""
    decoder_layers: Count = 1
    """Transformer decoder layers."""
    conv_kernel: Count = 15
    """Kernel of the Conformer's convolution, in frames."""
    subsampling: Literal[1, 2, 4] = 2
    """How many frames become one before the encoder."""
    dropout: Share = 0.1
    """Dropout in encoder and decoder."""
    ctc_weight: Share = 0.3
    """The weight c of the CTC loss in training."""
    label_smoothing: Share = 0.1
    """Label smoothing of the attention loss."""
    time_masking: TimeMasking = TimeMasking()

    @model_validator(mode="after")
    def _shapes(self) -> Self:
        if self.dim % self.heads:
            raise ValueError(f"dim {self.dim} must be a multiple of heads {self.heads}")
        if self.conv_kernel % 2 == 0:
            raise ValueError("conv_kernel must be odd, so that frames stay centred")
        return self


class AsrEvaluation(Section):
    """The joint beam search, and how the test splits are decoded."""

    beam_size: Count = 8
    """Hypotheses that the beam search keeps."""
    ctc_weight: Share = 0.4
    """The weight of the CTC score in the search."""
    max_length_share: Positive = 1.0
    """The longest text, in pieces for each encoded frame."""
    batch_seconds: Positive = 120.0
    """Audio that is encoded at once."""
