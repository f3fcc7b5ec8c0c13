"""The unit vocoder, and how its speech is scored."""

from typing import Annotated, Self

from pydantic import Field, model_validator

from pipeline.config.section import Count, Positive, Section, Share


class Vocoder(Section):
    """Unit HiFi-GAN on the trained tokenizer's units."""

    enabled: bool = True
    unit_dim: Count = 64
    speaker_dim: Count = 32
    unseen_speaker: str | None = None
    upsample_rates: tuple[Count, ...] = (8, 5, 4, 2)
    upsample_kernels: tuple[Count, ...] = (16, 11, 8, 4)
    initial_channels: Count = 128
    resblock_kernels: tuple[Count, ...] = (3, 7)
    resblock_dilations: tuple[tuple[Count, ...], ...] = ((1, 3), (1, 3))
    discriminator_channels: Count = 2
    segment_seconds: Positive = 0.64
    batch_size: Count = 4
    speaker_dropout: Share = 0.1
    steps: Count = 400
    adversarial_from_step: Annotated[int, Field(ge=0)] = 300
    learning_rate: Positive = 2e-3
    mel_weight: Positive = 45.0
    feature_matching_weight: Positive = 2.0
    checkpoint_steps: Count = 100
    log_steps: Count = 10
    seed: int = 0

    @model_validator(mode="after")
    def _shapes(self) -> Self:
        if len(self.upsample_rates) != len(self.upsample_kernels):
            raise ValueError("upsample_rates and upsample_kernels must be of one length")
        if len(self.resblock_kernels) != len(self.resblock_dilations):
            raise ValueError("resblock_kernels and resblock_dilations must be of one length")
        return self


class Resynthesis(Section):
    """Scores of resynthesised test speech."""

    utterances_per_split: Count = 20
    audio_examples: Count = 3
