"""Language models: the transformer that all of them are."""

from typing import Self

from pydantic import model_validator

from pipeline.config.section import Depth, Part, Section, Width


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
