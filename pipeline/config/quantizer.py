"""The codebook that k-means fits, and the quantizer that it initialises."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from pipeline.config.section import Count, Positive, Section


class Codebook(Section):
    """Ordinary k-means over one stored layer; it initialises the quantizer.

    All methods start from at most `sample_frames` frames in memory. `lloyd` then goes over all
    frames up to `max_passes` times. `minibatch` does too, but moves the centroids after every
    `batch_shards` shards, so it needs fewer passes. `coreset` reads every shard once for
    `coreset_frames` weighted frames of it, fits their union, and keeps them: with `refine`, the
    output folder of an earlier such fit, what that one read counts too and is not read again.
    """

    method: Literal["lloyd", "minibatch", "coreset"] = "lloyd"
    """How k-means goes over the data: `lloyd`, `minibatch` or `coreset`."""
    layer: Annotated[int, Field(ge=0)] = 2
    """The stored SSL layer to cluster; it must be among `features.layers`."""
    num_units: Annotated[int, Field(ge=1, le=65536)] = 64
    """The number of clusters K, that is of units."""
    sample_frames: Count = 200_000
    """How many frames, held in memory, seed the centroids."""
    max_passes: Count = 20
    """The most passes over all frames."""
    tolerance: Positive = 1e-4
    """Stop when a pass improves the distortion by less than this share."""
    batch_shards: Count = 8
    """`minibatch` only: shards between two moves of the centroids."""
    coreset_frames: Count = 4096
    """`coreset` only: weighted frames that represent each shard."""
    refine: str | None = None
    """`coreset` only: the output folder of an earlier fit to which this one adds."""
    seed: int = 0
    """Seeds and samples are drawn from it."""

    @model_validator(mode="after")
    def _refinable(self) -> Self:
        if self.refine is not None and self.method != "coreset":
            raise ValueError(
                f"codebook.refine adds to coresets, which method '{self.method}' does not make: "
                "set codebook.method to 'coreset'"
            )
        return self


class Sigma(Section):
    """How sharp p(j | s) = softmax(-sigma^2 ||s - mu_j||^2) is.

    `fixed`: sigma^2 = value (the paper: 1). `scaled`: sigma^2 = value / msd, msd being the mean
    squared distance to the nearest centroid after k-means. `perplexity`: sigma^2 such that the
    mean perplexity of p equals value at initialisation.
    """

    kind: Literal["fixed", "scaled", "perplexity"] = "scaled"
    """What `value` means."""
    value: Positive = 10.0
    """sigma^2 itself, its multiple, or a perplexity; `kind` decides."""
    learned: bool = False
    """Train sigma along with the codebook."""


class Iteration(Section):
    """How an iterated DKM settles: until centroids move by at most `tolerance` of their norm."""

    max_iterations: Count = 5
    """The most updates of the centroids on one batch."""
    tolerance: Annotated[float, Field(ge=0)] = 1e-4
    """Stop when the centroids move by at most this share of their norm."""


class Quantizer(Section):
    """From hidden states to what the ASR model sees.

    `kind` is `none` (continuous features), `kmeans` (the codebook as it was fitted), `dkm` (it
    learns) or `iterated_dkm`: it learns too, and in training settles on each batch, as `iteration`
    says, before units are chosen.

    `assignment` is what a DKM embeds in training: the row of a unit `sampled` with Gumbel noise, or
    of the nearest (`argmax`), both with the gradient of the relaxation, or the relaxation's own
    mean of rows (`soft`). Evaluation always takes the nearest.
    """

    kind: Literal["none", "kmeans", "dkm", "iterated_dkm"] = "dkm"
    """How hidden states become what the ASR model reads."""
    assignment: Literal["sampled", "argmax", "soft"] = "sampled"
    """What a DKM passes on in training."""
    layer_weights: Literal["fixed", "learned"] = "learned"
    """Read the codebook's layer alone, or learn weights over all stored layers."""
    initial_layer_mass: Annotated[float, Field(gt=0, lt=1)] = 0.8
    """The codebook layer's weight at the start, where the weights are learned."""
    sigma: Sigma = Sigma()
    """How sharp the soft assignment is."""
    iteration: Iteration = Iteration()
    """`iterated_dkm` only: how centroids adapt to each batch."""
    tau_start: Positive = 2.0
    """The temperature tau of the Gumbel-softmax at the first step."""
    tau_end: Positive = 0.1
    """The lowest tau."""
    tau_decay: Annotated[float, Field(gt=0, le=1)] = 0.999995
    """tau is multiplied by this at every step."""
    kmeans_loss_weight: Annotated[float, Field(ge=0)] = 0.5
    """The weight of the k-means loss beside the ASR loss."""

    @model_validator(mode="after")
    def _temperatures(self) -> Self:
        if self.tau_end > self.tau_start:
            raise ValueError("tau_end must not exceed tau_start: tau only falls")
        return self
