"""How far a stage is, for whoever watches the run.

A stage reports to its `Progress`, from whichever process does the work, and knows neither what
carries the reports nor what shows them.
"""

import contextlib
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from pipeline.redaction import redact

SECONDS_BETWEEN_REPORTS = 1.0


@dataclass(frozen=True)
class Report:
    """`done` of `total` in `unit`; a `total` of 0 is unknown. `note` is shown beside them."""

    done: float = 0.0
    total: float = 0.0
    unit: str = ""
    note: str = ""


# Carries a report, or a message that is one line by itself. It must not wait for anybody.
Send = Callable[[Report | str], None]


def _send_nowhere(_item: Report | str) -> None:
    pass


class Progress:
    """What a stage reports to; picklable if `send` is.

    Reports are throttled here, so that a loop may call `update` at every step. Nothing depends on
    their arrival: one that cannot be sent is dropped.
    """

    def __init__(self, send: Send = _send_nowhere) -> None:
        self._send = send
        self._sent_at = -math.inf
        self._unit = ""

    def __reduce__(self) -> tuple[Any, ...]:
        # Another machine has another clock.
        return Progress, (self._send,)

    def update(self, done: float = 0.0, total: float = 0.0, unit: str = "", note: str = "") -> None:
        """Report how far the stage is; most calls in a short time are dropped."""
        now = time.monotonic()
        # Parts that are summed in another order differ in the last digit.
        is_end = total > 0 and (done >= total or math.isclose(done, total))
        if now - self._sent_at < SECONDS_BETWEEN_REPORTS and unit == self._unit and not is_end:
            return
        self._sent_at, self._unit = now, unit
        self._deliver(Report(done, total, unit, redact(note)))

    def message(self, text: str) -> None:
        """A line of its own, for what every reader of the log should see.

        It is shown behind the stage's label, so `text` begins with a verb: "resumes at epoch 2".
        """
        self._deliver(redact(text))

    def _deliver(self, item: Report | str) -> None:
        with contextlib.suppress(Exception):  # whatever is wrong with the display, the work goes on
            self._send(item)


SILENT = Progress()


class Display(Protocol):
    """What shows the running stages, by their labels."""

    def start(self, label: str) -> None:
        """The stage runs now."""

    def show(self, label: str, report: Report) -> None:
        """A stage has reported; this may arrive after its end."""

    def end(self, label: str, text: str) -> None:
        """The stage has ended, as `text` says."""

    def line(self, text: str) -> None:
        """A line of its own stays on the screen."""
