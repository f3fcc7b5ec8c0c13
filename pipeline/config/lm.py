"""Language models: the transformer that all of them are."""

from typing import ClassVar, Literal, Self

from pydantic import model_validator

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
    Width,
)
from pipeline.config.token_asr import Segmentation


class CausalTransformer(Section):
    """A GPT-NeoX: a decoder of transformer layers with rotary positions."""

    dim: Width = 256
    """Width of the transformer."""
    layers: Depth = 4
    """Transformer layers."""
    heads: Width = 4
    """Attention heads; `dim` is an even multiple of them."""
    feedforward_dim: Width = 1024
    """Width inside the feed-forward blocks."""
    dropout: Part = 0.1
    """Dropout of embeddings, attention and layers."""

    @model_validator(mode="after")
    def _shapes(self) -> Self:
        if self.dim % (2 * self.heads):
            raise ValueError(
                f"dim {self.dim} must be an even multiple of heads {self.heads}: positions rotate "
                "pairs of a head's values"
            )
        return self


class LmTraining(Section):
    """The training of a language model.

    `checkpoint_steps` and `log_steps` change no digest.
    """

    epochs: Count = 20
    """Passes over the training split; the one that is likeliest on the validation split is kept."""
    batch_symbols: Count = 4096
    """Symbols of a step, over all workers; a longer sequence is a step of its own."""
    learning_rate: Rate = 1e-3
    """The peak learning rate."""
    schedule: Literal["cosine", "noam"] = "cosine"
    """How the rate falls from its peak, after a linear warm-up: by half a cosine over all steps, or
    with one over the root of the step (`noam`)."""
    warmup_steps: CountOrNone = 50
    """Steps of linear warm-up; of a `cosine` schedule, half of its steps at most."""
    final_rate_share: Share = 0.1
    """`cosine` only: the last learning rate, as a share of the peak."""
    weight_decay: NotNegative = 0.1
    """Weight decay of AdamW, of matrices alone."""
    clip_norm: Positive = 1.0
    """The gradient's largest norm."""
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """What the model computes in; `auto` is bfloat16 on a GPU and float32 on a CPU."""
    checkpoint_steps: Count = 200
    """Steps between two checkpoints within an epoch."""
    log_steps: Count = 10
    """Steps between two points of the training curves."""
    seed: Seed = 0
    """Random seed of weights, batches and dropout."""


class LmSubwords(Segmentation):
    """Subwords that are always cut alike, so that a sequence has one probability."""

    sampling: ClassVar[float] = 0.0
    kind: Literal["none", "bpe", "unigram"] = "none"
    """As `token_asr.subwords.kind`: by default unit by unit."""


class UnitLm(Section):
    """A language model of the trained tokenizer's units."""

    enabled: bool = False
    """Train it, and score how well it predicts the test splits. Tokens that others made
    (`corpus.kind: tokens`) have none."""
    deduplicate: bool = True
    """Take each run of one unit as one."""
    subwords: LmSubwords = LmSubwords()
    transformer: CausalTransformer = CausalTransformer()
    training: LmTraining = LmTraining()


class TextLm(Section):
    """A neural language model of the pieces of text."""

    transformer: CausalTransformer = CausalTransformer(
        dim=128, layers=2, heads=4, feedforward_dim=512
    )
    training: LmTraining = LmTraining()
