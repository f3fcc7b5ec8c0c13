"""The log of a training: means over intervals of steps, and scores of each epoch."""

from collections.abc import Mapping
from typing import Any, Protocol

import torch

from pipeline.metrics.units import perplexity_of_counts, usage_of_counts
from pipeline.progress import SILENT, Progress

Row = dict[str, float]
Sums = dict[str, list[float]]  # by name, a total and of how many values

SHOWN = {
    "train.loss": "loss",
    "valid.loss": "validation loss",
    "valid.wer": "validation WER",
}


class Log(Protocol):
    """What a history is written to, such as a stage's log."""

    def metrics(self, values: Mapping[str, float], step: int) -> None:
        """Values at a step."""

    def flush(self) -> None:
        """Write what waits."""


class _NoLog:
    def metrics(self, values: Mapping[str, float], step: int) -> None:
        pass

    def flush(self) -> None:
        pass


NO_LOG = _NoLog()


class History:
    """Rows of step and epoch metrics; only the leading worker has a log that takes them.

    The rows are part of the checkpoint, so a resumed run has the complete history. The log has them
    already: it is flushed before each checkpoint.

    Attributes:
        of_epoch: means of the training's measures over the steps of the last complete epoch.
        counts_K: how often each unit occurred in that epoch's validation; None without units.
    """

    def __init__(
        self,
        num_epochs: int,
        log: Log = NO_LOG,
        progress: Progress = SILENT,
    ) -> None:
        self.rows: list[Row] = []
        self.counts_K: torch.Tensor | None = None
        self._num_epochs = num_epochs
        self._log = log
        self._progress = progress
        self.of_epoch: Row = {}
        self._sums: Sums = {}
        self._epoch_sums: Sums = {}
        self._values: dict[str, float] = {}
        self._losses: dict[str, float] = {}

    def update(self, measures: Row, gradient_norm: float, values: Row) -> None:
        """Add an optimizer step: `measures` to the means of the interval and of the epoch.

        Of `values` the latest are logged.
        """
        means = {f"train.{name}": value for name, value in measures.items()}
        _add_to(self._epoch_sums, means)
        _add_to(self._sums, {**means, "gradient_norm": gradient_norm})
        self._values |= values

    def steps(self, step: int, epoch: int, costs: Row) -> None:
        """Close an interval of steps; `costs` is what they took."""
        means = _take_means(self._sums)
        self._add({**means, **self._values, **costs, "epoch": float(epoch)}, step)

    def epoch(
        self,
        step: int,
        epoch: int,
        scores: dict[str, float],
        layer_weights: dict[int, float],
        counts_K: torch.Tensor | None,
    ) -> None:
        """Add an epoch's validation scores, layer weights, codebook usage."""
        self.of_epoch = _take_means(self._epoch_sums)
        row = {f"valid.{name}": value for name, value in scores.items()}
        row |= {f"layer_weight.{layer:02d}": weight for layer, weight in layer_weights.items()}
        self.counts_K = counts_K
        if counts_K is not None:
            counts = counts_K.double().cpu().numpy()
            row["codebook_usage"] = usage_of_counts(counts)
            row["codebook_perplexity"] = perplexity_of_counts(counts)
        self._add(row, step)
        self.reached(epoch + 1)

    def reached(self, epochs: float) -> None:
        """Report how far the training is, a fraction of an epoch included."""
        note = ", ".join(f"{SHOWN[name]} {loss:.3f}" for name, loss in self._losses.items())
        self._progress.update(epochs, self._num_epochs, "epochs", note)

    def stopped(self, epochs: int, planned: int) -> None:
        """Say that a phase has ended after `epochs` of those `planned` up to its end."""
        self._progress.message(f"stops after epoch {epochs} of {planned}: it gets no better")
        self.reached(planned)

    def resumed(self, epoch: int) -> None:
        self._progress.message(f"goes on from epoch {epoch + 1}")

    def _add(self, row: Row, step: int) -> None:
        self.rows.append({"step": float(step), **row})
        self._log.metrics(row, step)
        self._note(row)

    def _note(self, row: Row) -> None:
        self._losses |= {name: row[name] for name in SHOWN if name in row}

    def flush(self) -> None:
        """Let nothing wait: before a checkpoint, and before long work that logs nothing."""
        self._log.flush()

    def state(self) -> dict[str, Any]:
        return {
            "rows": self.rows,
            "of_epoch": self.of_epoch,
            "sums": self._sums,
            "epoch_sums": self._epoch_sums,
            "values": self._values,
            "counts_K": self.counts_K,
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from a checkpoint."""
        self.rows = state["rows"]
        for row in self.rows:
            self._note(row)
        self.of_epoch = state["of_epoch"]
        self._sums, self._epoch_sums = state["sums"], state["epoch_sums"]
        self._values = state["values"]
        self.counts_K = state.get("counts_K")  # earlier checkpoints have none


def _add_to(sums: Sums, values: Row) -> None:
    for name, value in values.items():
        total, number = sums.get(name, [0.0, 0.0])
        sums[name] = [total + value, number + 1]


def _take_means(sums: Sums) -> Row:
    """The means of what was added; empties `sums`."""
    means = {name: total / number for name, (total, number) in sums.items()}
    sums.clear()
    return means
