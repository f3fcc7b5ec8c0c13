"""How the trainings went: learning curves and layer weights, all variants in one picture each."""

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from markupsafe import Markup
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from pipeline.log.read_log import Row, read_history
from pipeline.metrics.plots import LAYER_WEIGHT, MEASURES
from pipeline.report.picture import colour_of, marker_of, picture
from pipeline.report.variant import Variant

# The measures that tell most, of trainings that have them; of others, every validation score, and of
# those that are never validated, every measure.
SHOWN = ("valid.wer", "valid.asr_loss", "train.asr_loss", "codebook_perplexity")
_MOST_POINTS = 300  # of a curve: more are no wider than its line
_FEW_POINTS = 40  # so few that each is marked
_SOURCES = {"train": "training", "valid": "validation"}


@dataclass(frozen=True)
class Curve:
    """A measure of one training: N values with their steps."""

    steps_N: np.ndarray
    values_N: np.ndarray


@dataclass(frozen=True)
class History:
    """The log of one training, by measure."""

    variant: Variant
    curves: Mapping[str, Curve]


@dataclass(frozen=True)
class Curves:
    """Pictures by the training that they are of, and that of the layer weights."""

    trainings: dict[str, list[Markup]]
    layer_weights: Markup | None


def curves(variants: Sequence[Variant]) -> Curves:
    histories = _histories(variants)
    pictures = {
        stage: [_picture(stage, measure, found) for measure in _shown(found)]
        for stage, found in histories.items()
    }
    joint = [each for found in histories.values() for each in found if _layers(each)]
    return Curves(pictures, _picture_of_weights(joint) if joint else None)


def _histories(variants: Sequence[Variant]) -> dict[str, list[History]]:
    """The logs of all trainings, by stage."""
    found: dict[str, list[History]] = defaultdict(list)
    for variant in variants:
        nodes = [node for member in variant.members for node in member.nodes.values()]
        # No training is for one split.
        for name in dict.fromkeys(node.name for node in nodes if not node.split):
            for node in variant.outputs(name):
                read = partial(read_history, node.artifact)
                rows = variant.read(f"the history of {node.label}", read)
                if rows:
                    found[name].append(History(variant, _curves(rows)))
    return found


def _curves(rows: Sequence[Row]) -> dict[str, Curve]:
    steps_R = np.array([row["step"] for row in rows])
    found = {}
    for name in sorted({name for row in rows for name in row} - {"step"}):
        values_R = np.array([row.get(name, math.nan) for row in rows])
        known = np.flatnonzero(np.isfinite(values_R))
        chosen = known[:: -(-len(known) // _MOST_POINTS) or 1]
        if len(chosen):
            found[name] = Curve(steps_R[chosen], values_R[chosen])
    return found


def _shown(histories: Sequence[History]) -> list[str]:
    names = sorted({name for history in histories for name in history.curves})
    chosen = [name for name in SHOWN if name in names]
    return chosen or [name for name in names if name.startswith("valid.")] or names


def _picture(stage: str, measure: str, histories: Sequence[History]) -> Markup:
    source, _, name = measure.rpartition(".")
    title = f"{MEASURES.get(name, name)}{f', {_SOURCES[source]}' if source in _SOURCES else ''}"
    known = [history for history in histories if measure in history.curves]
    ends = ", ".join(
        f"{each.variant.name} {each.curves[measure].values_N[-1]:.3g}" for each in known
    )
    return picture(lambda: _draw(measure, title, known), f"{stage}: {title}, at the end {ends}.")


def _draw(measure: str, title: str, histories: Sequence[History]) -> Figure:
    figure = Figure(figsize=(4.6, 3.0), layout="constrained")
    axes = figure.add_subplot()
    named = set()
    for history in histories:
        curve, variant = history.curves[measure], history.variant
        axes.plot(
            curve.steps_N,
            curve.values_N,
            color=colour_of(variant.place),
            marker=marker_of(variant.place) if len(curve.steps_N) < _FEW_POINTS else "",
            markersize=3,
            label="" if variant.name in named else variant.name,
        )
        named.add(variant.name)
    axes.set(title=title, xlabel="step")
    axes.grid(axis="y")
    axes.legend(fontsize="small")
    return figure


def _layers(history: History) -> dict[int, float]:
    """The weight of each layer at the end of the training."""
    return {
        int(name.removeprefix(LAYER_WEIGHT)): float(curve.values_N[-1])
        for name, curve in history.curves.items()
        if name.startswith(LAYER_WEIGHT)
    }


def _picture_of_weights(histories: Sequence[History]) -> Markup:
    weights: dict[str, list[dict[int, float]]] = defaultdict(list)
    places = {history.variant.name: history.variant.place for history in histories}
    for history in histories:
        weights[history.variant.name].append(_layers(history))
    means = {name: _mean(trainings) for name, trainings in weights.items()}
    said = "; ".join(
        f"{name} " + ", ".join(f"layer {layer} {weight:.2f}" for layer, weight in mean.items())
        for name, mean in means.items()
    )
    return picture(lambda: _draw_weights(means, places), f"Layer weights after training: {said}.")


def _mean(trainings: Sequence[Mapping[int, float]]) -> dict[int, float]:
    """The mean weights over trainings; a layer that a training lacks weighs nothing there."""
    layers = sorted({layer for weights in trainings for layer in weights})
    return {
        layer: sum(weights.get(layer, 0.0) for weights in trainings) / len(trainings)
        for layer in layers
    }


def _draw_weights(means: Mapping[str, Mapping[int, float]], places: Mapping[str, int]) -> Figure:
    figure = Figure(figsize=(4.6, 3.0), layout="constrained")
    axes = figure.add_subplot()
    for name, mean in means.items():
        place = places[name]
        axes.plot(
            list(mean), list(mean.values()),
            color=colour_of(place), marker=marker_of(place), label=name,
        )  # fmt: skip
    axes.set(title="layer weights after training", xlabel="layer", ylabel="weight", ylim=(0, 1.05))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(axis="y")
    axes.legend(fontsize="small")
    return figure
