"""What is logged as training goes on: means over an interval of steps, scores of an epoch."""

import math
from collections.abc import Callable
from typing import Any

import torch

from pipeline.metrics.units import perplexity_of_counts, usage_of_counts
from pipeline.training.joint import JointModel

Row = dict[str, float]


class History:
    """Rows of step and epoch metrics; only the leading worker passes them on.

    The rows are part of the checkpoint, so a resumed run has the whole history.
    """

    def __init__(
        self,
        num_epochs: int,
        log: Callable[[Row, int], None] = lambda _row, _step: None,
        say: Callable[[str], None] = lambda _message: None,
    ) -> None:
        self.rows: list[Row] = []
        self.counts_K: torch.Tensor | None = None
        self._num_epochs = num_epochs
        self._log = log
        self._say = say
        self._sums: dict[str, list[float]] = {}
        self._values: dict[str, float] = {}

    def count(self, name: str, value: float) -> None:
        """Add to the mean of `name` over the current interval."""
        total, number = self._sums.get(name, [0.0, 0.0])
        self._sums[name] = [total + value, number + 1]

    def set(self, name: str, value: float) -> None:
        """The latest value of `name`."""
        self._values[name] = value

    def steps(self, step: int, epoch: int) -> None:
        """Close an interval of steps."""
        means = {name: total / number for name, (total, number) in self._sums.items()}
        self._sums = {}
        self._add({**means, **self._values, "epoch": float(epoch)}, step)

    def epoch(
        self,
        step: int,
        epoch: int,
        losses: dict[str, float],
        model: JointModel,
        counts_K: torch.Tensor | None,
    ) -> None:
        """Add an epoch's validation losses ("loss" in all), layer weights, codebook usage."""
        row = {f"valid.{name}": value for name, value in losses.items()}
        weights = model.mix.weights_L.tolist()
        row |= {f"layer_weight.{n:02d}": w for n, w in zip(model.layers, weights, strict=True)}
        text = f"epoch {epoch + 1}/{self._num_epochs}, step {step}: validation loss {losses['loss']:.3f}"
        self.counts_K = counts_K
        if counts_K is not None:
            counts = counts_K.double().cpu().numpy()
            row["codebook_usage"] = usage_of_counts(counts)
            row["codebook_perplexity"] = perplexity_of_counts(counts)
            text += f", codebook perplexity {row['codebook_perplexity']:.1f}"
        recent = [row["train.loss"] for row in self.rows if "train.loss" in row][-1:]
        self._say(text + "".join(f", training loss {loss:.3f}" for loss in recent))
        self._add(row, step)

    def _add(self, row: Row, step: int) -> None:
        self._log({name: value for name, value in row.items() if math.isfinite(value)}, step)
        self.rows.append({"step": float(step), **row})

    def state(self) -> dict[str, Any]:
        return {"rows": self.rows, "sums": self._sums, "values": self._values}

    def restore(self, state: dict[str, Any]) -> None:
        self.rows = state["rows"]
        self._sums = state["sums"]
        self._values = state["values"]
