"""The ASR model, and how it decodes."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from pipeline.config.section import Count, Positive, Section, Share


class TextUnits(Section):
    """What the ASR model writes."""

    kind: Literal["characters", "sentencepiece"] = "characters"
    vocabulary_size: Count = 500


class TimeMasking(Section):
    """Time-only SpecAugment on what the encoder reads, in training."""

    masks: Annotated[int, Field(ge=0)] = 2
    max_share: Share = 0.05


class Asr(Section):
    """Conformer encoder, Transformer decoder, c * CTC + (1 - c) * attention."""

    text: TextUnits = TextUnits()
    embedding_dim: Count = 128
    dim: Count = 128
    heads: Count = 4
    feedforward_dim: Count = 256
    encoder_layers: Count = 2
    decoder_layers: Count = 1
    conv_kernel: Count = 15
    subsampling: Literal[1, 2, 4] = 2
    dropout: Share = 0.1
    ctc_weight: Share = 0.3
    label_smoothing: Share = 0.1
    time_masking: TimeMasking = TimeMasking()

    @model_validator(mode="after")
    def _shapes(self) -> Self:
        if self.dim % self.heads:
            raise ValueError(f"dim {self.dim} must be a multiple of heads {self.heads}")
        if self.conv_kernel % 2 == 0:
            raise ValueError("conv_kernel must be odd, so that frames stay centred")
        return self


class AsrEvaluation(Section):
    """Decoding of the test splits."""

    beam_size: Count = 8
    ctc_weight: Share = 0.4
    max_length_share: Positive = 1.0
    batch_seconds: Positive = 120.0
