"""What steps measured: it stays on the device until it is logged."""

import math
from typing import NamedTuple

from torch import Tensor

from pipeline.training.choices import ChoiceMeans
from pipeline.training.history import History
from pipeline.training.objective import Objective
from pipeline.training.worker import Worker


class Measured(NamedTuple):
    """One step's losses and choices on this worker, its gradient's norm, and `values` known before."""

    step: int
    losses: Tensor
    choices: ChoiceMeans
    gradient_norm: Tensor
    values: dict[str, float]


class StepMeasures:
    """The steps that the history lacks.

    To read a number waits until the device has computed it, and meanwhile nobody gives the device
    more to do. So steps are read together, once an interval.
    """

    def __init__(self, worker: Worker, history: History) -> None:
        self._worker, self._history = worker, history
        self._unread: list[Measured] = []

    def add(self, measured: Measured) -> None:
        self._unread.append(measured)

    def read(self, objective: Objective) -> None:
        """Take the steps since the last time into the history; all workers must call.

        Raises:
            FloatingPointError: a gradient was not finite. The weights are lost, so read before a
                checkpoint is written.
        """
        for step, losses, choices, gradient_norm, values in self._unread:
            norm = float(gradient_norm)
            if not math.isfinite(norm):
                raise FloatingPointError(
                    f"the gradient is not finite at step {step}: lower the learning rates of the "
                    "phase or lengthen its warmup_steps"
                )
            measures = objective.report(losses, self._worker) | choices.report(self._worker)
            self._history.update(measures, norm, values)
        self._unread.clear()
