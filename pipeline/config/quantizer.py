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
    layer: Annotated[int, Field(ge=0)] = 2
    num_units: Annotated[int, Field(ge=1, le=65536)] = 64
    sample_frames: Count = 200_000
    max_passes: Count = 20
    tolerance: Positive = 1e-4
    batch_shards: Count = 8
    coreset_frames: Count = 4096
    refine: str | None = None
    seed: int = 0

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
    value: Positive = 10.0
    learned: bool = False


class Iteration(Section):
    """How an iterated DKM settles: until centroids move by at most `tolerance` of their norm."""

    max_iterations: Count = 5
    tolerance: Annotated[float, Field(ge=0)] = 1e-4


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
    assignment: Literal["sampled", "argmax", "soft"] = "sampled"
    layer_weights: Literal["fixed", "learned"] = "learned"
    initial_layer_mass: Annotated[float, Field(gt=0, lt=1)] = 0.8
    sigma: Sigma = Sigma()
    iteration: Iteration = Iteration()
    tau_start: Positive = 2.0
    tau_end: Positive = 0.1
    tau_decay: Annotated[float, Field(gt=0, le=1)] = 0.999995
    kmeans_loss_weight: Annotated[float, Field(ge=0)] = 0.5

    @model_validator(mode="after")
    def _temperatures(self) -> Self:
        if self.tau_end > self.tau_start:
            raise ValueError("tau_end must not exceed tau_start: tau only falls")
        return self
