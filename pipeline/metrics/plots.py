"""Figures of a run. Each is a figure of its own: nothing here touches pyplot's global state."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

# Rows such as {"step": 10, "train.loss": 3.1, "layer_weight.02": 0.9}; a row may lack values.
History = Sequence[Mapping[str, float | None]]

LAYER_WEIGHT = "layer_weight."
_LINE: dict[str, Any] = {"marker": ".", "markersize": 3}  # so that a single point shows
_LABELS_SHOWN = 60  # more row labels than this would print over each other


def learning_curves(history: History) -> Figure:
    """One panel for each measure, over steps.

    The last part of a value's name is the measure, and what stands before it is a line in its
    panel: "train.loss" and "valid.loss" are compared. Layer weights have a figure of their own.
    """
    measures: dict[str, list[str]] = {}
    for name in sorted({name for row in history for name in row} - {"step", "epoch"}):
        if not name.startswith(LAYER_WEIGHT):
            measures.setdefault(name.rpartition(".")[2], []).append(name)
    columns = min(3, max(1, len(measures)))
    rows = -(-max(1, len(measures)) // columns)
    figure = Figure(figsize=(4.5 * columns, 3.2 * rows), layout="constrained")
    for panel, (measure, names) in enumerate(measures.items(), start=1):
        axes = figure.add_subplot(rows, columns, panel)
        for name in names:
            axes.plot(*_curve(history, name), label=name.rpartition(".")[0] or name, **_LINE)
        axes.set(title=measure, xlabel="step")
        if names != [measure]:
            axes.legend()
    return figure


def layer_weights(history: History) -> Figure:
    """The weight of each layer over steps, from values named "layer_weight.<layer>"."""
    names = sorted({name for row in history for name in row if name.startswith(LAYER_WEIGHT)})
    figure, axes = _figure(6.0, 4.0)
    for name in names:
        layer = int(name.removeprefix(LAYER_WEIGHT))
        axes.plot(*_curve(history, name), label=f"layer {layer}", **_LINE)
    axes.set(title="Layer weights", xlabel="step", ylabel="weight", ylim=(0, 1.05))
    if names:
        axes.legend(ncols=1 + len(names) // 10, fontsize="small")
    return figure


def codebook_usage(counts_K: np.ndarray) -> Figure:
    """How often each of K units occurs, most frequent first, on a logarithmic scale."""
    counts_K = np.sort(np.asarray(counts_K))[::-1]
    used = int((counts_K > 0).sum())
    figure, axes = _figure(6.0, 4.0)
    axes.step(np.arange(1, used + 1), counts_K[:used], where="mid")
    axes.set(
        title=f"Codebook usage: {used} of {len(counts_K)} units",
        xlabel="units by rank",
        ylabel="frames",
        xlim=(0, len(counts_K) + 1),
    )
    if used:
        axes.set_yscale("log")
    return figure


def purity_heat_map(counts_PK: np.ndarray, phones: Sequence[str]) -> Figure:
    """P(phone | unit) from P x K joint counts.

    Phones are sorted by how often they occur and units by the phone they stand for most, so that a
    pure codebook shows as a staircase. Units that do not occur are left out.
    """
    shares_PU, order_P = sorted_shares(counts_PK)
    names = [phones[index] for index in order_P]
    figure, axes = _figure(8.0, max(4.0, min(12.0, 0.16 * len(names))))
    if not shares_PU.size:
        axes.set(title="P(phone | unit): no frame was counted")
        return figure
    image = axes.imshow(shares_PU, aspect="auto", interpolation="nearest", vmin=0, vmax=1)
    axes.set(title="P(phone | unit)", xlabel="units, sorted", ylabel="phone")
    if len(names) <= _LABELS_SHOWN:
        axes.set_yticks(range(len(names)), names, fontsize="small")
    figure.colorbar(image)
    return figure


def sorted_shares(counts_PK: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The P x U matrix of `purity_heat_map` (U units that occur), and the order of its phones."""
    counts_PK = np.asarray(counts_PK, dtype=np.float64)
    order_P = np.argsort(-counts_PK.sum(axis=1), kind="stable")
    counts_PU = counts_PK[order_P][:, counts_PK.sum(axis=0) > 0]
    shares_PU = counts_PU / counts_PU.sum(axis=0)
    if shares_PU.size:
        best_U, share_U = shares_PU.argmax(axis=0), shares_PU.max(axis=0)
        shares_PU = shares_PU[:, np.lexsort((-share_U, best_U))]
    return shares_PU, order_P


def _curve(history: History, name: str) -> tuple[list[float], list[float]]:
    points = [(row["step"], row.get(name)) for row in history]
    known = [(step, value) for step, value in points if step is not None and value is not None]
    return [step for step, _ in known], [value for _, value in known]


def _figure(width_inches: float, height_inches: float) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(width_inches, height_inches), layout="constrained")
    return figure, figure.add_subplot()
