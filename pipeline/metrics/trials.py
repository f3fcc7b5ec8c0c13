"""The trials of one variant: what was set, how it validated, and which is best."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from rich.markup import escape
from rich.table import Table

# A trial's scores, and the order in which they decide: the second where the first is equal.
WER, LOSS = "valid.wer", "valid.asr_loss"
_MISSING = "–"  # noqa: RUF001 - an en dash, as tables of results have it


@dataclass(frozen=True)
class Trial:
    """One setting of a variant, tried: its scores on the validation split, or why it has none.

    `settings` are by key, and empty for the config as it stands. `digests` name the outputs of
    train_joint that were scored.
    """

    number: int
    settings: Mapping[str, Any]
    digests: tuple[str, ...] = ()
    scores: Mapping[str, float] | None = None
    error: str = ""

    @property
    def rank(self) -> tuple[float, ...]:
        """The lower, the better; of equals the earlier, and failures last."""
        wer, loss = (math.inf if self.scores is None else self.scores[name] for name in (WER, LOSS))
        return wer, loss, self.number

    @property
    def shown(self) -> tuple[str, str]:
        """The word error rate in percent and the ASR loss."""
        if self.scores is None:
            return _MISSING, _MISSING
        return f"{100 * self.scores[WER]:.1f}", f"{self.scores[LOSS]:.3f}"


@dataclass(frozen=True)
class Trials:
    """All trials of one variant, as they were drawn."""

    variant: str
    trials: Sequence[Trial]

    @property
    def ranked(self) -> list[Trial]:
        """The best first, and those without scores last."""
        return sorted(self.trials, key=lambda trial: trial.rank)

    @property
    def best(self) -> Trial | None:
        """The best of those that have scores."""
        return next((trial for trial in self.ranked if trial.scores is not None), None)

    def summary(self) -> str:
        """Which trial is best, in one line."""
        if self.best is None:
            return f"{self.variant}: none of {len(self.trials)} trials has a score"
        wer, loss = self.best.shown
        stood = self.trials[0].shown[0]
        return (
            f"{self.variant}: trial {self.best.number} is the best of {len(self.trials)} by the word "
            f"error rate on the validation split: {wer} % (ASR loss {loss}); as it stood: {stood} %"
        )

    def table(self) -> Table:
        """For the terminal, best first."""
        header, *rows = self._lines()
        table = Table(title=escape(f"{self.variant}, trials, best first"))
        for name in header:
            table.add_column(escape(name), overflow="fold")
        for row in rows:
            table.add_row(*map(escape, row))
        return table

    def as_markdown(self) -> str:
        """The same table in GitHub's Markdown."""
        header, *rows = self._lines()
        lines = [header, ["---:", "---:", "---:", *["---"] * (len(header) - 3)], *rows]
        cells = ([cell.replace("|", "&#124;") for cell in line] for line in lines)
        return "".join(f"| {' | '.join(line)} |\n" for line in cells)

    def record(self) -> dict[str, Any]:
        """Everything, unrounded, as JSON has it."""
        return {
            "variant": self.variant,
            "best": None if self.best is None else self.best.number,
            "trials": [asdict(trial) for trial in self.trials],
        }

    def _lines(self) -> list[list[str]]:
        keys = list(dict.fromkeys(key for trial in self.trials for key in trial.settings))
        header = ["trial", "WER (%)", "ASR loss", *keys]
        lines = [
            [str(trial.number), *trial.shown, *(_cell(trial.settings, key) for key in keys)]
            for trial in self.ranked
        ]
        if not any(trial.error for trial in self.trials):
            return [header, *lines]
        errors = [" ".join(trial.error.split()) for trial in self.ranked]
        return [
            [*header, "why it failed"],
            *([*line, error] for line, error in zip(lines, errors, strict=True)),
        ]


def _cell(settings: Mapping[str, Any], key: str) -> str:
    if key not in settings:
        return _MISSING
    value = settings[key]
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
