"""The codebook that k-means fits, and the quantizer that it initialises."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Self

from pydantic import Field, ValidationInfo, model_validator

from pipeline.config.declaration import load_kind
from pipeline.config.section import (
    Address,
    Count,
    Layer,
    NotNegative,
    Section,
    Seed,
    Temperature,
    Text,
    validate_part,
)

KINDS = "pipeline.quantizer.kinds"


class Codebook(Section):
    """Ordinary k-means over one stored layer; it initialises the quantizer.

    All methods start from a sample of frames in memory. `lloyd` then passes over all frames.
    `minibatch` does too, but moves the centroids more often, so it needs fewer passes. `coreset`
    reads every shard once for weighted frames that represent it, fits their union, and reads every
    shard once more to measure the result; with `refine`, the shards of an earlier fit count too,
    and those that are gone are only left out of the measurement.
    """

    method: Literal["lloyd", "minibatch", "coreset"] = "lloyd"
    """How k-means goes over the data."""
    layer: Layer = 2
    """The stored SSL layer to cluster; it must be among `features.layers`."""
    num_units: Annotated[int, Field(ge=1, le=65536)] = 64
    """The number of clusters K, that is of units."""
    sample_frames: Count = 200_000
    """How many frames, held in memory, seed the centroids."""
    max_passes: Count = 20
    """The largest number of passes over all frames."""
    tolerance: Annotated[float, Field(gt=0, le=1)] = 1e-4
    """Stop when a pass improves the distortion by less than this share."""
    batch_shards: Count = 8
    """`minibatch` only: shards between two moves of the centroids."""
    coreset_frames: Count = 4096
    """`coreset` only: weighted frames that represent each shard."""
    refine: Address | None = None
    """`coreset` only: the output folder of an earlier fit to which this one adds."""
    seed: Seed = 0
    """Random seed of the samples and the first centroids."""

    @model_validator(mode="after")
    def _refinable(self) -> Self:
        if self.sample_frames < self.num_units:
            raise ValueError(
                f"sample_frames {self.sample_frames} must not be less than num_units "
                f"{self.num_units}, which start from frames of the sample"
            )
        if self.refine is not None and self.method != "coreset":
            raise ValueError(
                f"codebook.refine adds to coresets, which method '{self.method}' does not make: "
                "set codebook.method to 'coreset'"
            )
        return self


class Sigma(Section):
    """How sharp p(j | s) = softmax(-sigma^2 d(s, mu_j)) is; `quantizer.distance` says what d is.

    `fixed`: sigma^2 = value (the paper: 1). `scaled`: sigma^2 = value / msd, msd being the mean
    squared distance to the nearest centroid after k-means; where the distance is `euclidean`, the
    root of msd takes its place. `perplexity`: sigma^2 such that the mean perplexity of p equals
    value at initialisation.
    """

    kind: Literal["fixed", "scaled", "perplexity"] = "scaled"
    """What `value` means."""
    value: Annotated[float, Field(ge=1e-9, le=1e9)] = 10.0
    """sigma^2 itself, its multiple, or a perplexity; `kind` decides."""
    learned: bool = False
    """Train sigma along with the codebook."""


class Iteration(Section):
    """How far an iterated DKM adapts its centroids to a batch."""

    max_iterations: Count = 5
    """The largest number of updates of the centroids on one batch."""
    tolerance: Annotated[float, Field(ge=0, le=1)] = 1e-4
    """Stop when the centroids move by at most this share of their norm."""


class Quantizer(Section):
    """From hidden states to what the ASR model reads.

    `kind` is `none` (continuous features), `kmeans` (the codebook as it was fitted), `dkm` (the
    codebook learns), `iterated_dkm` (it learns, and in training it first adapts to each batch, as
    `iteration` says), or the dotted name of a module of your own that declares QUANTIZER;
    docs/new_quantizer.md has an example.

    `assignment` is what a DKM embeds in training: the row of a unit `sampled` with Gumbel noise or
    of the nearest unit (`argmax`), both with the gradient of the soft assignment, or the mean of
    all rows under the soft assignment (`soft`). Evaluation always takes the nearest unit.
    """

    kind: Text = "dkm"
    """How hidden states become what the ASR model reads; a dotted name is a module of your own."""
    assignment: Literal["sampled", "argmax", "soft"] = "sampled"
    """What a DKM passes on in training."""
    distance: Literal["euclidean", "squared"] = "squared"
    """d of p = softmax(-sigma^2 d): ||s - mu||, as the authors' recipe has it, or ||s - mu||^2."""
    layer_weights: Literal["fixed", "learned"] = "learned"
    """Read the codebook's layer alone, or learn weights over all stored layers."""
    initial_layer_mass: Annotated[float, Field(gt=0, lt=1)] = 0.8
    """The codebook layer's weight at the start, where the weights are learned."""
    sigma: Sigma = Sigma()
    iteration: Iteration = Iteration()
    tau_start: Temperature = 2.0
    """The temperature tau of the Gumbel-softmax at the first step."""
    tau_end: Temperature = 0.1
    """The lowest tau."""
    tau_decay: Annotated[float, Field(gt=0, le=1)] | None = 0.999995
    """tau is multiplied by this at every step in which it acts; `None` takes what brings it to
    `tau_end` at the last one, however many there are."""
    kmeans_loss_weight: NotNegative = 0.0
    """The weight of the k-means loss beside the ASR loss; the method's authors have none."""

    @model_validator(mode="after")
    def _temperatures(self) -> Self:
        if self.tau_end > self.tau_start:
            raise ValueError("tau_end must not exceed tau_start: tau only falls")
        return self

    @property
    def has_units(self) -> bool:
        """Whether it turns frames into units, so that there is a codebook and a tokenizer."""
        return load_quantizer(self.kind).build is not None

    @property
    def passes_gradient(self) -> bool:
        """Whether the ASR loss reaches what comes before the quantizer."""
        return load_quantizer(self.kind).passes_gradient

    def build(self, codebook: Any) -> Any:
        """The module that starts from a fitted codebook, a `pipeline.clustering.codebook.Codebook`."""
        kind = load_quantizer(self.kind)
        return kind.build(self, codebook)  # type: ignore[misc] # a kind with a codebook has it

    def settings(self) -> dict[str, Any]:
        """What the training depends on: without units that is the mix of layers alone."""
        mix = {"kind", "layer_weights", "initial_layer_mass"}
        return self.model_dump(mode="json", include=None if self.has_units else mix)


@dataclass(frozen=True)
class QuantizerKind:
    """What the module that `quantizer.kind` names declares as QUANTIZER.

    Attributes:
        build: from the config's section and a fitted codebook to a
            `pipeline.quantizer.unit_quantizer.UnitQuantizer`; None where there are no units.
        section: the config's section, `Quantizer` or a class that adds keys to it.
        passes_gradient: whether the ASR loss reaches what comes before the quantizer.
    """

    build: Callable[[Any, Any], Any] | None
    section: type[Quantizer] = Quantizer
    passes_gradient: bool = True


def load_quantizer(kind: str) -> QuantizerKind:
    """What a kind declares; a name without a dot is one of the project's own.

    Raises:
        ConfigError: there is no such module, or it declares no quantizer.
    """
    return load_kind(kind, KINDS, "QUANTIZER", QuantizerKind, "quantizer")


def in_own_section(values: Any, info: ValidationInfo) -> Any:
    """The values of `quantizer`, read as the section that their kind declares."""
    kind = values.get("kind") if isinstance(values, dict) else None
    if not isinstance(kind, str):
        return values
    return validate_part(load_quantizer(kind).section, values, info)
