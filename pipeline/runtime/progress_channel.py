"""Brings the stages' reports to the driver's display, from any process on any node."""

from functools import partial
from typing import Any

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from pipeline.progress import Progress, Report

MOST_PENDING_CALLS = 100


class Mailbox:
    """A Ray actor beside the driver: the latest report of each stage, and all messages."""

    def __init__(self) -> None:
        self._reports: dict[str, Report] = {}
        self._messages: list[tuple[str, str]] = []

    def put(self, label: str, item: Report | str) -> None:
        if isinstance(item, str):
            self._messages.append((label, item))
        else:
            self._reports[label] = item

    def take(self) -> list[tuple[str, Report | str]]:
        """What has come since the last call."""
        taken: list[tuple[str, Report | str]] = [*self._messages, *self._reports.items()]
        self._messages, self._reports = [], {}
        return taken


class ProgressChannel:
    """The driver's end. A mailbox that is lost is started anew, and costs some reports."""

    def __init__(self) -> None:
        home = ray.get_runtime_context().get_node_id()
        self._mailbox: Any = (
            ray.remote(Mailbox)
            .options(
                num_cpus=0,
                max_restarts=-1,
                max_pending_calls=MOST_PENDING_CALLS,
                scheduling_strategy=NodeAffinitySchedulingStrategy(home, soft=False),
            )
            .remote()
        )
        self._awaited: ray.ObjectRef[Any] | None = None

    def progress(self, label: str) -> Progress:
        """What a stage gets."""
        return Progress(partial(_send, self._mailbox, label))

    def poll(self, seconds: float = 0.0) -> list[tuple[str, Report | str]]:
        """What the mailbox answers within `seconds`, each item with its stage's label."""
        try:
            if self._awaited is None:
                self._awaited = self._mailbox.take.remote()
            if not ray.wait([self._awaited], timeout=seconds)[0]:
                return []
            answer, self._awaited = self._awaited, None
            items: list[tuple[str, Report | str]] = ray.get(answer)
        except ray.exceptions.RayError:
            return []
        return items

    def close(self) -> None:
        ray.kill(self._mailbox)


def _send(mailbox: Any, label: str, item: Report | str) -> None:
    mailbox.put.options(num_returns=0).remote(label, item)
