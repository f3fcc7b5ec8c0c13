"""Figures of a run, made without pyplot and its global state."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

# Rows such as {"step": 10, "train.loss": 3.1, "layer_weight.02": 0.9}; a row may lack values.
History = Sequence[Mapping[str, float | None]]

LAYER_WEIGHT = "layer_weight."
# The titles of the measures, in the order of their panels; others follow by name.
MEASURES = {
    "loss": "loss",
    "asr_loss": "ASR loss (CTC and attention)",
    "wer": "word error rate of greedy CTC",
    "ctc": "CTC loss",
    "attention": "attention loss",
    "kmeans": "k-means loss",
    "mel_loss": "mel loss",
    "stft_loss": "STFT loss",
    "duration_loss": "loss of durations",
    "pitch_loss": "loss of F0 and voicing",
    "adversarial_loss": "adversarial loss",
    "feature_matching_loss": "feature matching loss",
    "discriminator_loss": "loss of the discriminators",
    "codebook_perplexity": "codebook perplexity",
    "codebook_usage": "codebook usage (share of units)",
    "entropy": "entropy of p (nats)",
    "perplexity": "perplexity of p (units)",
    "noisy_share": "noisy choices (share of frames)",
    "tau": "temperature tau",
    "rate_share": "learning rate (share of its peak)",
    "gradient_norm": "gradient norm",
    "audio_seconds_per_second": "speed (s of audio per s)",
    "step_seconds": "time of a step (s)",
    "data_wait_seconds": "waiting for data in a step (s)",
    "peak_memory_gib": "peak memory (GiB)",
}
_LINE: dict[str, Any] = {"marker": ".", "markersize": 3}  # so that a single point shows
_MOST_LABELS = 120  # of an axis; more would print over each other


def learning_curves(history: History) -> Figure:
    """One panel for each measure, over steps.

    The last part of a value's name is the measure, and the part before it names a line in that
    measure's panel: "train.loss" and "valid.loss" share one. Layer weights have their own figure.
    """
    lines: dict[str, list[str]] = {}
    for name in sorted({name for row in history for name in row} - {"step", "epoch"}):
        if not name.startswith(LAYER_WEIGHT):
            lines.setdefault(name.rpartition(".")[2], []).append(name)
    measures = [name for name in MEASURES | lines if name in lines]
    columns = min(3, max(1, len(measures)))
    rows = -(-max(1, len(measures)) // columns)
    figure = Figure(figsize=(4.5 * columns, 3.2 * rows), layout="constrained")
    for panel, measure in enumerate(measures, start=1):
        axes = figure.add_subplot(rows, columns, panel)
        for name in lines[measure]:
            axes.plot(*_curve(history, name), label=name.rpartition(".")[0] or name, **_LINE)
        axes.set(title=MEASURES.get(measure, measure), xlabel="step")
        if lines[measure] != [measure]:
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
    shares_PU, order_P, order_U = sorted_shares(counts_PK)
    num_phones, num_units = shares_PU.shape
    figure, axes = _figure(
        max(8.0, 2.0 + 0.13 * min(num_units, _MOST_LABELS)),
        max(4.0, 1.0 + 0.16 * min(num_phones, _MOST_LABELS)),
    )
    if not shares_PU.size:
        axes.set(title="P(phone | unit): no frame was counted")
        return figure
    image = axes.imshow(shares_PU, aspect="auto", interpolation="nearest", vmin=0, vmax=1)
    axes.set(
        title="P(phone | unit)",
        xlabel=f"{num_units} units, by their most frequent phone",
        ylabel="phone, most frequent first",
    )
    rows, columns = _labelled(num_phones), _labelled(num_units)
    labels = [phones[order_P[row]] for row in rows]
    axes.set_yticks(rows, labels, fontsize=8, parse_math=False)  # a label may hold dollar signs
    axes.set_xticks(columns, order_U[columns].tolist(), fontsize=7, rotation=90)
    figure.colorbar(image, label="share of the unit's frames")
    return figure


def _labelled(count: int) -> list[int]:
    """The rows or columns that get a label: all, or every n-th of very many."""
    return list(range(0, count, -(-count // _MOST_LABELS)))


def sorted_shares(counts_PK: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The P x U matrix of `purity_heat_map`, and the phones and units of its rows and columns."""
    counts_PK = np.asarray(counts_PK, dtype=np.float64)
    order_P = np.argsort(-counts_PK.sum(axis=1), kind="stable")
    order_U = np.flatnonzero(counts_PK.sum(axis=0))
    counts_PU = counts_PK[order_P][:, order_U]
    shares_PU = counts_PU / counts_PU.sum(axis=0)
    if shares_PU.size:
        best_U, share_U = shares_PU.argmax(axis=0), shares_PU.max(axis=0)
        sorting_U = np.lexsort((-share_U, best_U))
        shares_PU, order_U = shares_PU[:, sorting_U], order_U[sorting_U]
    return shares_PU, order_P, order_U


def _curve(history: History, name: str) -> tuple[list[float], list[float]]:
    points = [(row["step"], row.get(name)) for row in history]
    known = [(step, value) for step, value in points if step is not None and value is not None]
    return [step for step, _ in known], [value for _, value in known]


def _figure(width_inches: float, height_inches: float) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(width_inches, height_inches), layout="constrained")
    return figure, figure.add_subplot()
