"""The joint training, and that of a small SSL model where no pretrained one is available."""

from itertools import pairwise
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from pipeline.config.section import (
    UNLESS_DEFAULT,
    Count,
    CountOrNone,
    Depth,
    NotNegative,
    Part,
    Positive,
    Rate,
    Seconds,
    Section,
    Seed,
    Share,
    Width,
)


def _require_hundredths(speed: float) -> float:
    if speed != round(speed, 2):
        raise ValueError(f"{speed:g} has more than two decimals: only such speeds are resampled to")
    return speed


def _require_unchanged(speeds: tuple[float, ...]) -> tuple[float, ...]:
    if 1.0 not in speeds or len(set(speeds)) != len(speeds):
        raise ValueError(
            f"speeds {list(speeds)} must name 1, the recordings as they are, and each speed once"
        )
    return tuple(sorted(speeds))


Speed = Annotated[float, Field(ge=0.5, le=2), AfterValidator(_require_hundredths)]


class LearningRates(Section):
    """Peak learning rates of the parameter groups."""

    asr: Rate = 2e-3
    """Peak rate of the ASR model."""
    centroids: Rate = 5e-3
    """Peak rate of the codebook."""
    layer_weights: Rate = 1e-2
    """Peak rate of the weights over SSL layers."""
    sigma: Rate = 1e-3
    """Peak rate of sigma, where it is learned."""
    ssl: Rate = 5e-4
    """Peak rate of the SSL model, in phases that fine-tune it."""


class Phase(Section):
    """One part of training, with an optimizer of its own."""

    epochs: Count
    """Passes over the training split, with its copies at other speeds (`training.speeds`)."""
    ssl: Literal["frozen", "finetuned"] = "frozen"
    """Read stored features (`frozen`), or read audio and train the SSL model too (`finetuned`), which
    all phases behind it do as well."""
    quantizer: Literal["sampled", "nearest"] = "sampled"
    """Embed units as `quantizer.assignment` says (`sampled`), or the nearest unit as k-means does:
    then no gradient passes, codebook and layer weights stay, and tau does not fall."""
    codebook: Literal["learned", "frozen"] = "learned"
    """Train the codebook and, if it is learned, sigma; or leave both as they are (`frozen`)."""
    learning_rates: LearningRates = LearningRates()
    ssl_layer_decay: Annotated[float, Field(gt=0, le=1)] = 1.0
    """Each block of the SSL model learns at this share of the rate of the block above it, and what
    comes before the first block at this share of that one's; the last block has
    `learning_rates.ssl`."""
    schedule: Annotated[Literal["cosine", "noam"], UNLESS_DEFAULT] = "cosine"
    """How the rates fall from their peaks, after a linear warm-up: by half a cosine over the phase's
    steps, or with one over the root of the step, however many there will be (`noam`)."""
    warmup_steps: CountOrNone = 100
    """Steps of linear warm-up; of a `cosine` phase, half of its steps at most."""
    final_rate_share: Share = 0.1
    """`cosine` only: the last learning rate, as a share of the peak."""

    @model_validator(mode="after")
    def _learns_what_a_gradient_reaches(self) -> Self:
        if self.quantizer == "nearest" and self.ssl == "finetuned":
            raise ValueError(
                "a phase with quantizer 'nearest' passes no gradient, so ssl 'finetuned' would train "
                "nothing: set one of the two otherwise"
            )
        return self


class Training(Section):
    """Joint training of quantizer, ASR and (where a phase says so) SSL model.

    `gradient_checkpointing`, `compile`, `checkpoint_steps`, `keep_checkpoints` and `log_steps` change no digest.
    """

    phases: tuple[Phase, ...] = (Phase(epochs=8),)
    """The phases, in order."""
    speeds: Annotated[tuple[Speed, ...], AfterValidator(_require_unchanged), UNLESS_DEFAULT] = (
        1.0,
    )
    """Train on the training split at each of these speeds, such as [0.9, 1.0, 1.1]: pitch changes with
    the tempo, texts stay. Where a phase reads stored features, those of each copy are stored too, and so are the units of each
    where `token_asr` learns from units. `resynthesis_loss` takes the voice of a copy for its speaker's."""
    train_front_end: bool = False
    """Also train the SSL model's convolutional front end where it is fine-tuned."""
    remember_front_end: Annotated[bool, UNLESS_DEFAULT] = False
    """Compute what a front end that is not trained makes of an utterance once instead of in each epoch,
    and keep it, up to `cluster.cache_gigabytes` more for each worker (a second of audio takes 100 kB for
    WavLM large). It differs by rounding. For training on CPUs, with WavLM, HuBERT or wav2vec 2.0."""
    ssl_dropout: Part | None = None
    """Dropout of the SSL model where it is fine-tuned, of hidden states, attention, activations and
    the front end's projection alike; `None` leaves what the model's own config says."""
    batch_seconds: Seconds = 60.0
    """Audio of a step, over all workers."""
    accumulate: Count = 1
    """Passes into which each worker divides its share of a step, to save memory."""
    clip_norm: Positive = 1.0
    """The gradient's largest norm."""
    weight_decay: NotNegative = 1e-2
    """Weight decay of AdamW."""
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """What the models compute in; `auto` is bfloat16 on a GPU and float32 on a CPU."""
    gradient_checkpointing: bool | Literal["auto"] = "auto"
    """Compute a fine-tuned SSL model's blocks again in the backward pass: a third more work, far
    less memory. `auto` does so for as many blocks as the GPU's memory asks for, and for none on a
    CPU."""
    compile: Literal["auto", "on", "off"] = "auto"
    """Compile the blocks of the SSL and the ASR model with `torch.compile`, which takes a minute or two
    at the start. `auto` does so on a GPU where the training reads enough audio to win them back and
    there is a C compiler, and never with `cluster.sharding: fsdp`. On a CPU it is no quicker."""
    checkpoint_steps: Count = 200
    """Steps between two checkpoints within an epoch."""
    keep_checkpoints: bool = False
    """Keep the checkpoints of a finished training, of the vocoder too. They are several times as
    large as the models and serve one purpose: without them, a model that `verify --repair` finds
    damaged is retrained, and what was made from it is made again."""
    select: Literal["loss", "wer"] = "loss"
    """What says which epochs are best, on the validation split: the ASR loss (CTC and attention,
    weighted by `asr.ctc_weight`), or the word error rate of greedy CTC. Where it is equal, the other
    decides."""
    average_best: Count = 3
    """How many of the best epochs are averaged at the end: of these, those of the best one's phase."""
    ema_decay: Annotated[Part | None, UNLESS_DEFAULT] = None
    """Validate, choose and keep a moving average of the weights instead of the weights: at each step
    it moves by 1 - `ema_decay` of the way to them, by more in the first steps. `None` averages over
    no steps. A checkpoint has both."""
    patience: Annotated[Count | None, UNLESS_DEFAULT] = None
    """End a phase after so many epochs without a better one by `select`; the next phase begins, with a
    patience of its own. `None` trains all `epochs`."""
    log_steps: Count = 10
    """Steps between two points of the training curves."""
    seeds: tuple[Seed, ...] = (0,)
    """Random seeds of weights, batches and noise. The variant is trained once with each; features,
    codebook and vocoder are made once."""

    @model_validator(mode="after")
    def _phases(self) -> Self:
        if not self.phases:
            raise ValueError("training needs at least one phase")
        if ("finetuned", "frozen") in pairwise(phase.ssl for phase in self.phases):
            raise ValueError(
                "a phase with ssl 'frozen' reads what the SSL model as it was loaded made, so it cannot "
                "follow one with ssl 'finetuned', which changes that model: let it come first, or "
                "fine-tune in it too"
            )
        return self

    @model_validator(mode="after")
    def _front_end(self) -> Self:
        if self.train_front_end and self.remember_front_end:
            raise ValueError(
                "remember_front_end keeps what the front end makes of utterances, which "
                "train_front_end changes: set one of them to false"
            )
        return self

    @model_validator(mode="after")
    def _seeds(self) -> Self:
        if not self.seeds:
            raise ValueError("seeds is empty: name at least one, such as [0]")
        if len(set(self.seeds)) != len(self.seeds):
            raise ValueError(
                f"seeds {list(self.seeds)} names a seed twice, and would count one training as two: "
                "name each once"
            )
        return self

    @property
    def seed(self) -> int:
        """The only seed; for a member of a variant, which has one (see `members`)."""
        [seed] = self.seeds
        return seed

    @property
    def reads_features(self) -> bool:
        return any(phase.ssl == "frozen" for phase in self.phases)

    @property
    def finetunes_ssl(self) -> bool:
        return any(phase.ssl == "finetuned" for phase in self.phases)


class Pretraining(Section):
    """HuBERT-style masked prediction of k-means labels of MFCCs, for a small WavLM.

    Needed only where no pretrained model is available; see tasks/pretrain_encoder.py.
    """

    num_labels: Width = 100
    """Clusters of MFCC frames that serve as labels."""
    dim: Width = 128
    """Width of the transformer."""
    layers: Depth = 2
    """Transformer layers."""
    heads: Width = 4
    """Attention heads; they divide `dim`."""
    feedforward_dim: Width = 512
    """Width inside the feed-forward blocks."""
    conv_channels: Annotated[int, Field(ge=2, le=65_536)] = 64
    """Channels of the convolutional front end; its first two layers have half."""
    dropout: Part = 0.05
    """Dropout in the transformer."""
    mask_start_share: Annotated[float, Field(gt=0, le=1)] = 0.08
    """The chance that a masked span starts at a frame."""
    mask_frames: Count = 10
    """Frames in a masked span."""
    heard_weight: NotNegative = 1.0
    """The weight of the loss over frames that are not masked."""
    band_limited_share: Share = 0.5
    """The share of utterances that are cut to the telephone band."""
    speed_range: Annotated[float, Field(ge=0, le=0.9)] = 0.15
    """The largest change of speed, up or down."""
    bfloat16: bool = True
    """Compute in bfloat16."""
    epochs: Count = 12
    """Passes over the training split."""
    batch_seconds: Seconds = 20.0
    """Audio of a step."""
    learning_rate: Rate = 3e-3
    """The peak learning rate."""
    warmup_share: Share = 0.1
    """The share of all steps that warm up."""
    clip_norm: Positive = 1.0
    """The gradient's largest norm."""
    weight_decay: NotNegative = 1e-2
    """Weight decay of AdamW."""
    seed: Seed = 0
    """Random seed of weights, masks and distortions."""

    @model_validator(mode="after")
    def _shapes(self) -> Self:
        if self.dim % self.heads:
            raise ValueError(f"dim {self.dim} must be a multiple of heads {self.heads}")
        if self.dim % 16:
            raise ValueError(
                f"dim {self.dim} must be a multiple of 16, WavLM's groups of positions"
            )
        return self
