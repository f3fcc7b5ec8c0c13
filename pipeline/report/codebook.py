"""What the units stand for: how often each occurs, and which phone it means.

Codebooks of several seeds or folds have nothing in common, so the first one of a variant is shown.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import pyarrow as pa
from markupsafe import Markup
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from pipeline.corpus.read_outputs import read_tokens
from pipeline.metrics.plots import purity_heat_map
from pipeline.report.picture import colour_of, picture
from pipeline.report.variant import Variant


@dataclass(frozen=True)
class Codebook:
    """The usage of all codebooks in one picture, and by variant which phones units mean."""

    usage: Markup | None
    heat_maps: dict[str, Markup]


def codebook(variants: Sequence[Variant], splits: Sequence[str]) -> Codebook:
    """What is known of the first test split of which something is."""
    usages = (_usage(variants, split) for split in splits)
    maps = (_heat_maps(variants, split) for split in splits)
    return Codebook(next(filter(None, usages), None), next(filter(None, maps), {}))


def _usage(variants: Sequence[Variant], split: str) -> Markup | None:
    counts = {}
    for variant in variants:
        if node := variant.tokens(split):
            read = partial(read_tokens, node.artifact, split)
            units = variant.read(f"the tokens of {node.label}", read)
            if units:
                counts[variant.place, variant.name] = _counts(variant, list(units.values()))
    if not counts:
        return None
    said = ", ".join(
        f"{name} uses {np.count_nonzero(counts_K)} of {len(counts_K)} units"
        for (_, name), counts_K in counts.items()
    )
    return picture(lambda: _draw_usage(counts, split), f"Codebook usage on {split}: {said}.")


def _counts(variant: Variant, units: Sequence[np.ndarray]) -> np.ndarray:
    """How often each of the K units occurs, most frequent first; of others' tokens, K is not known."""
    known = variant.config.codebook.num_units if variant.config.corpus.has_audio else 0
    counts_K = np.bincount(np.concatenate(units), minlength=known)
    return np.sort(counts_K)[::-1]


def _draw_usage(counts: Mapping[tuple[int, str], np.ndarray], split: str) -> Figure:
    figure = Figure(figsize=(4.6, 3.0), layout="constrained")
    axes = figure.add_subplot()
    for (place, name), counts_K in counts.items():
        used = counts_K[counts_K > 0]
        axes.step(
            np.arange(1, len(used) + 1), used / counts_K.sum(),
            where="mid", color=colour_of(place), label=f"{name}: {len(used)} of {len(counts_K)}",
        )  # fmt: skip
    axes.set(title=f"codebook usage, {split}", xlabel="units by rank", ylabel="share of frames")
    axes.set_yscale("log")
    axes.yaxis.set_major_formatter(PercentFormatter(1.0))
    axes.grid(axis="y")
    axes.legend(fontsize="small")
    return figure


def _heat_maps(variants: Sequence[Variant], split: str) -> dict[str, Markup]:
    found = {}
    for variant in variants:
        name = f"counts-{split}.parquet"
        node = variant.first(f"phone_purity/{split}")
        if node is not None and node.artifact.exists(name):
            read = partial(node.artifact.read_table, name)
            table = variant.read(f"the purity of {node.label}", read)
            if table is not None:
                found[variant.name] = _heat_map(table, f"{variant.name} on {split}")
    return found


def _heat_map(table: pa.Table, whose: str) -> Markup:
    counts_PK = np.array(table["frames_of_unit"].to_pylist())
    phones = [label or "(none)" for label in table["label"].to_pylist()]
    alt = (
        f"Phones of the units of {whose}: each column is a unit, each row a phone; the more of a "
        f"unit's frames are of a phone, the lighter the cell. {_said(counts_PK, phones)}"
    )
    return picture(lambda: purity_heat_map(counts_PK, phones), alt, keeps_size=True)


def _said(counts_PK: np.ndarray, phones: Sequence[str]) -> str:
    """The purest units in words."""
    totals_K = counts_PK.sum(axis=0)
    share_K = counts_PK.max(axis=0, initial=0) / np.maximum(totals_K, 1)
    best = np.argsort(-share_K, kind="stable")[:5]
    each = (
        f"unit {unit} is {phones[int(counts_PK[:, unit].argmax())]} in {share_K[unit]:.0%}"
        for unit in best
    )
    return f"The purest: {', '.join(each)}."
