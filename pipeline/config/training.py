"""The joint training, and that of a small SSL model where no pretrained one can be had."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from pipeline.config.section import Count, Positive, Section, Share


class LearningRates(Section):
    """Peak learning rates of the parameter groups."""

    asr: Positive = 2e-3
    centroids: Positive = 5e-3
    layer_weights: Positive = 1e-2
    sigma: Positive = 1e-3
    ssl: Positive = 5e-4


class Phase(Section):
    """One leg of training, with an optimizer of its own."""

    epochs: Count
    ssl: Literal["frozen", "finetuned"] = "frozen"
    learning_rates: LearningRates = LearningRates()
    warmup_steps: Annotated[int, Field(ge=0)] = 100
    final_rate_share: Share = 0.1


class Training(Section):
    """Joint training of quantizer, ASR and (where a phase says so) SSL model.

    `batch_seconds` is the audio of a step, over all workers; `accumulate` divides each worker's
    share into as many passes. With `gradient_checkpointing` a fine-tuned SSL model computes its
    blocks again in the backward pass instead of keeping what they hold: a third more work, and far
    less memory. Neither this, `checkpoint_steps` nor `log_steps` changes a digest.
    """

    phases: tuple[Phase, ...] = (Phase(epochs=8),)
    train_front_end: bool = False
    batch_seconds: Positive = 60.0
    accumulate: Count = 1
    clip_norm: Positive = 1.0
    weight_decay: Annotated[float, Field(ge=0)] = 1e-2
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    gradient_checkpointing: bool = False
    checkpoint_steps: Count = 200
    average_best: Count = 3
    log_steps: Count = 10
    seed: int = 0

    @model_validator(mode="after")
    def _phases(self) -> Self:
        if not self.phases:
            raise ValueError("training needs at least one phase")
        return self

    @property
    def finetunes_ssl(self) -> bool:
        return any(phase.ssl == "finetuned" for phase in self.phases)


class Pretraining(Section):
    """HuBERT-style masked prediction of k-means labels of MFCCs, for a small WavLM.

    Needed only where no pretrained model can be had; see tasks/pretrain_encoder.py.
    """

    num_labels: Count = 100
    dim: Count = 128
    layers: Count = 2
    heads: Count = 4
    feedforward_dim: Count = 512
    conv_channels: Count = 64
    dropout: Share = 0.05
    mask_start_share: Share = 0.08
    mask_frames: Count = 10
    heard_weight: Annotated[float, Field(ge=0)] = 1.0
    band_limited_share: Share = 0.5
    speed_range: Share = 0.15
    bfloat16: bool = True
    epochs: Count = 12
    batch_seconds: Positive = 20.0
    learning_rate: Positive = 3e-3
    warmup_share: Share = 0.1
    clip_norm: Positive = 1.0
    weight_decay: Annotated[float, Field(ge=0)] = 1e-2
    seed: int = 0

    @model_validator(mode="after")
    def _shapes(self) -> Self:
        if self.dim % self.heads:
            raise ValueError(f"dim {self.dim} must be a multiple of heads {self.heads}")
        return self
