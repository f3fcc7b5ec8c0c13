"""The unit vocoder."""

from math import prod
from typing import Annotated, Literal, Self

from pydantic import Field, field_validator, model_validator

from pipeline.config.section import (
    Count,
    CountOrNone,
    Depth,
    NotNegative,
    Part,
    Positive,
    Rate,
    Section,
    Seed,
    Share,
    Text,
    Width,
)


class Istft(Section):
    """A generator at the frame rate with an inverse STFT, as Vocos; its hop is that of the units."""

    dim: Width = 192
    """Width of the network."""
    blocks: Depth = 4
    """ConvNeXt blocks."""
    expansion: Width = 3
    """How many times wider a block is inside."""
    kernel: Width = 7
    """Frames that a convolution sees."""
    overlap: Annotated[int, Field(ge=2, le=64)] = 4
    """Length of a frame's window in hops."""

    @field_validator("kernel")
    @classmethod
    def _centred(cls, kernel: int) -> int:
        if kernel % 2 == 0:
            raise ValueError("must be odd, so that frames stay centred")
        return kernel


class Hifigan(Section):
    """The generator of HiFi-GAN, which upsamples step by step."""

    upsample_rates: tuple[Width, ...] = (8, 5, 4, 2)
    """Upsampling factors; their product is the SSL model's hop in samples, times `features.pool`."""
    upsample_kernels: tuple[Width, ...] = (16, 11, 8, 4)
    """Kernels of the upsampling layers."""
    initial_channels: Width = 128
    """Channels before the first upsampling; each upsampling halves them."""
    resblock_kernels: tuple[Width, ...] = (3, 7)
    """Kernels of the residual blocks."""
    resblock_dilations: tuple[tuple[Width, ...], ...] = ((1, 3), (1, 3))
    """Dilations of the residual blocks, a list for each kernel."""

    @model_validator(mode="after")
    def _shapes(self) -> Self:
        if len(self.upsample_rates) != len(self.upsample_kernels):
            raise ValueError("upsample_rates and upsample_kernels must have the same length")
        if len(self.resblock_kernels) != len(self.resblock_dilations):
            raise ValueError("resblock_kernels and resblock_dilations must have the same length")
        if any(kernel % 2 == 0 for kernel in self.resblock_kernels):
            raise ValueError("resblock_kernels must be odd, so that samples stay centred")
        if self.initial_channels >> len(self.upsample_rates) == 0:
            raise ValueError(
                f"initial_channels {self.initial_channels} cannot be halved for each of the "
                f"{len(self.upsample_rates)} upsample_rates: no channel would be left"
            )
        return self

    @model_validator(mode="after")
    def _lengths(self) -> Self:
        """A transposed convolution of rate r, kernel k and padding (k - r) / 2 makes r T of T steps."""
        for rate, kernel in zip(self.upsample_rates, self.upsample_kernels, strict=True):
            if kernel < rate or (kernel - rate) % 2:
                raise ValueError(
                    f"upsample_kernels: {kernel} does not suit the rate {rate}, because it would "
                    f"change the length: choose {rate} plus an even number, such as "
                    f"{2 * rate + rate % 2}"
                )
        return self


class Adversaries(Section):
    """The discriminators that recordings and made speech must look alike to."""

    from_step: CountOrNone = 200
    """The first step that trains against them."""
    channels: Width = 2
    """Width of their first layers; the papers have 32."""
    segment_seconds: Annotated[float, Field(ge=0.1, le=60)] = 0.32
    """The part of each training segment that they hear."""
    loss: Literal["least_squares", "hinge"] = "least_squares"
    """What both sides lose by a score: HiFi-GAN's squares, or Vocos's hinge."""
    feature_matching_weight: NotNegative = 2.0
    """The weight of the feature matching loss."""


class Vocoder(Section):
    """What turns the trained tokenizer's units into speech."""

    enabled: bool = True
    """Train a vocoder and score resynthesised speech."""
    generator: Literal["istft", "hifigan"] = "istft"
    """The network that makes the waveform: `istft` computes the spectrum of each frame, `hifigan`
    each sample, which takes one or two orders of magnitude more operations. Only the section of
    that name counts."""
    istft: Istft = Istft()
    hifigan: Hifigan = Hifigan()
    unit_dim: Width = 64
    """Width of a unit's embedding."""
    speaker: Literal["table", "encoder"] = "table"
    """What stands for a speaker: `table` learns a vector for each training speaker, `encoder` makes
    one of some seconds of anybody's speech, so that unheard speakers keep their voice."""
    speaker_dim: Width = 32
    """Width of a speaker's vector."""
    unseen_speaker: Text | None = None
    """The training speaker that speaks where the speaker was not heard in training, and with
    `encoder` no voice is given; `None` is the average of all."""
    pitch: Literal["none", "predicted"] = "none"
    """With `predicted`, F0 and voicing are predicted from units and speaker, and `istft` filters
    pulses and noise instead of finding phases, so that speech is voiced after few steps."""
    segment_seconds: Annotated[float, Field(ge=0.1, le=60)] = 0.64
    """Length of a training segment."""
    batch_size: Width = 8
    """Segments of a step, which all training workers share; best a multiple of their number,
    since segments of a worker that has fewer weigh more."""
    speaker_dropout: Share = 0.1
    """The share of segments that the average speaker speaks, so that it is trained too. Where
    `unseen_speaker` stands for others, nobody needs it, and there are none."""
    band_hz: Annotated[float, Field(ge=500, le=1e6)] | None = None
    """The highest frequency that is learned. `None` is half the sample rate of the training split's
    files, the highest of twenty: recordings of a telephone that were resampled have nothing above."""
    steps: Count = 500
    """Steps of training."""
    learning_rate: Rate = 2e-3
    """Peak learning rate of vocoder and discriminators."""
    mel_weight: Positive = 45.0
    """The weight of the mel spectrogram's loss."""
    stft_weight: NotNegative = 5.0
    """The weight of the STFT loss: spectral convergence and log magnitudes."""
    adversaries: Adversaries = Adversaries()
    ema_decay: Part = 0.99
    """Evaluate and keep a moving average of the vocoder's weights: at each step it moves by
    1 - `ema_decay` of the way to them, by more in the first steps."""
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """What the networks compute in; `auto` is bfloat16 on a GPU and float32 on a CPU. Spectra and
    losses are float32."""
    checkpoint_steps: Count = 100
    """Steps between two checkpoints."""
    log_steps: Count = 10
    """Steps between two points of the training curves."""
    example_steps: Count = 200
    """Steps between two sets of audio examples from the validation split in MLflow."""
    seed: Seed = 0
    """Random seed of weights and segments."""

    @model_validator(mode="after")
    def _excited(self) -> Self:
        if self.pitch == "predicted" and self.generator != "istft":
            raise ValueError(
                f"pitch: predicted needs spectra that it can excite, which {self.generator} has not: "
                "set vocoder.generator to istft, or vocoder.pitch to none"
            )
        return self

    def hop_mistake(self, hop: int) -> str | None:
        """Why the generator cannot make `hop` samples of a frame, and the cure, if it cannot."""
        rates = self.hifigan.upsample_rates
        if self.generator != "hifigan" or prod(rates) == hop:
            return None
        return (
            f"vocoder.hifigan.upsample_rates {list(rates)} multiply to {prod(rates)}, but a unit "
            f"stands for {hop} samples: choose rates with the product {hop}"
        )
