"""The running stages on a terminal, one live line each, or as plain lines in a log."""

import time
from collections.abc import Callable
from functools import partial
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, ProgressColumn, Task, TaskID, TextColumn
from rich.progress import Progress as Bars
from rich.text import Text

from pipeline.progress import Progress, Report

SECONDS_BETWEEN_LINES = 30.0
# Speed is the mean over so long: longer than a step, shorter than a day's changes of load.
SPEED_SECONDS = 300.0
BAR_WIDTH = 20


class _TimeAndHowFar(ProgressColumn):
    def render(self, task: Task) -> Text:
        seconds = task.get_time() - task.fields["started"]
        return Text(f"{_duration(seconds)}  {how_far(task)}", overflow="ellipsis", no_wrap=True)


class RunDisplay:
    """Shows what a run does, for the length of a `with` block."""

    def __init__(self, console: Console, clock: Callable[[], float] = time.monotonic) -> None:
        self._console = console
        self._clock = clock
        self._started = clock()
        self._bars = Bars(
            TextColumn("{task.description}", markup=False, style="bold"),
            BarColumn(BAR_WIDTH),
            _TimeAndHowFar(),
            console=console,
            speed_estimate_period=SPEED_SECONDS,
            get_time=clock,
        )
        self._tasks: dict[str, TaskID] = {}
        self._printed_at: dict[str, float] = {}

    def __enter__(self) -> Self:
        if self._console.is_terminal:
            self._bars.start()
        return self

    def __exit__(
        self,
        _kind: type[BaseException] | None,
        _error: BaseException | None,
        _traceback: TracebackType | None,
    ) -> None:
        if self._console.is_terminal:
            self._bars.stop()

    def progress(self, label: str) -> Progress:
        """Start a line, and return what it shows the reports of, for work in this process."""
        self.start(label)
        return Progress(partial(self._receive, label))

    def _receive(self, label: str, item: Report | str) -> None:
        if isinstance(item, str):
            self.line(f"{label} {item}")
        else:
            self.show(label, item)

    def start(self, label: str) -> None:
        if label in self._tasks:  # its process was lost, and it starts again
            self._bars.remove_task(self._tasks[label])
        self._printed_at[label] = now = self._clock()
        self._tasks[label] = self._bars.add_task(label, total=None, unit="", note="", started=now)
        if not self._console.is_terminal:
            self.line(f"{label} starts")

    def show(self, label: str, report: Report) -> None:
        if label not in self._tasks:
            return
        task = self._bars.tasks[self._bars.task_ids.index(self._tasks[label])]
        if report.unit != task.fields["unit"]:
            self._bars.reset(task.id)
        self._bars.update(
            task.id,
            completed=report.done,
            total=report.total or None,
            unit=report.unit,
            note=report.note,
        )
        now = self._clock()
        due = now - self._printed_at[label] >= SECONDS_BETWEEN_LINES
        if due and not self._console.is_terminal:
            self._printed_at[label] = now
            self.line(f"{label} {how_far(task)}")

    def end(self, label: str, text: str) -> None:
        self._bars.remove_task(self._tasks.pop(label))
        self.line(f"{label} {text}")

    def line(self, text: str) -> None:
        minutes, seconds = divmod(int(self._clock() - self._started), 60)
        line = f"{minutes:3d}:{seconds:02d}  {text}"
        self._console.print(line, markup=False, highlight=False, soft_wrap=True)


def how_far(task: Task) -> str:
    """What is done, speed, time left and note, as far as they are known."""
    unit, note = task.fields["unit"], task.fields["note"]
    parts = []
    if unit:
        total = f" of {_number(task.total)}" if task.total else ""
        parts.append(f"{_number(task.completed)}{total} {unit}")
    if unit and task.speed:
        parts.append(_speed(task.speed))
    if task.total and task.time_remaining:
        parts.append(f"{_duration(task.time_remaining)} left")
    return ", ".join([*parts, *filter(None, [note])])


def _number(value: float) -> str:
    if 0 < value < 1:
        return f"{value:.2g}"
    rounded = round(float(value), 2)
    return f"{rounded:,.0f}" if rounded >= 100 or rounded.is_integer() else f"{rounded:.2f}"


def _speed(per_second: float) -> str:
    for seconds, name in ((1, "s"), (60, "min")):
        if per_second * seconds >= 1:
            return f"{_number(per_second * seconds)}/{name}"
    return f"{_number(per_second * 3600)}/h"


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
