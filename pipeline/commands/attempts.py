"""The trials of a tuning under way: which can go on, and the graph that they make together."""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.commands.tuned_config import settings_of
from pipeline.config import Config, ConfigError, Tracking
from pipeline.config.files import Settings, load
from pipeline.config.keys import exists
from pipeline.errors import is_for_user
from pipeline.graph.graph import Graph, Member, build
from pipeline.graph.sources import Fingerprints
from pipeline.metrics.trials import LOSS, WER, Trial, Trials

# The graph ends with them: what is behind them evaluates test splits.
LAST_STAGES = ("train_joint", "train_token_asr")


def scored_stage(config: Config) -> str:
    """The training whose validation scores compare trials."""
    return LAST_STAGES[config.has_token_asr]


def for_tuning(tracking: Tracking) -> Tracking:
    """The same tracker, with an experiment of its own for trials."""
    return tracking.model_copy(update={"experiment": f"{tracking.experiment}-tuning"})


@dataclass(frozen=True)
class Variant:
    """A config file, and the config that it gives under the overrides of the command line."""

    file: Path
    overrides: Sequence[str]
    config: Config

    @property
    def name(self) -> str:
        return self.config.variant


@dataclass
class Attempt:
    """One trial of a variant: its config, which is a variant of its own, or why it has failed."""

    variant: Variant
    number: int
    settings: Settings
    config: Config | None = None
    error: str = ""

    @classmethod
    def of(cls, variant: Variant, number: int, drawn: Settings) -> "Attempt":
        """The trial with those of the drawn settings that the variant has."""
        settings = {key: node for key, node in drawn.items() if exists(variant.config, key)}
        attempt = cls(variant, number, settings)
        try:
            config = load(variant.file, variant.overrides, settings)
        except ConfigError as error:
            attempt.error = str(error)
        else:
            update = {"variant": attempt.name, "tracking": for_tuning(config.tracking)}
            attempt.config = config.model_copy(update=update)
            own = config.for_token_asr if config.has_token_asr else config
            if not own.asr.ctc_weight:
                attempt.error = "trials are compared by what CTC writes, which ctc_weight 0 does not train: raise it"
        return attempt

    @property
    def name(self) -> str:
        """As a variant in the graph and in MLflow."""
        return f"{self.variant.name} trial {self.number}"


class Attempts:
    """All trials of all variants."""

    def __init__(self, attempts: Iterable[Attempt]) -> None:
        self._attempts = list(attempts)
        self._fingerprints = Fingerprints()

    def going_on(self) -> Iterator[tuple[Attempt, Config]]:
        """Those that have not failed, with their configs."""
        for attempt in self._attempts:
            if attempt.config is not None and not attempt.error:
                yield attempt, attempt.config

    def graph(self) -> Graph:
        """The stages up to the training of all that go on; what cannot be trained fails here."""
        graph = self._graph()
        return self._graph() if self._refuse(graph) else graph

    def fail(self, names: Iterable[str], error: str) -> None:
        """End the trials of these names, unless they have ended already."""
        for attempt in self._attempts:
            if attempt.name in names and not attempt.error:
                attempt.error = error

    def trials(self) -> dict[str, Trial]:
        """How all have ended, by name."""
        graph = self._graph()
        return {
            attempt.name: _trial(attempt, graph.members_of(attempt.name))
            for attempt in self._attempts
        }

    def trials_of(self, variant: Variant) -> Trials:
        """How those of one variant have ended."""
        ended = self.trials()
        return Trials(
            variant.name, [ended[each.name] for each in self._attempts if each.variant == variant]
        )

    def settings_of(self, variant: Variant, number: int) -> dict[str, Any]:
        """What a trial that has not failed sets, as a config file has it."""
        [(attempt, config)] = (
            (attempt, config)
            for attempt, config in self.going_on()
            if (attempt.variant, attempt.number) == (variant, number)
        )
        return settings_of(config, attempt.settings)

    def _graph(self) -> Graph:
        configs = [config for _, config in self.going_on()]
        return build(configs, LAST_STAGES, fingerprints=self._fingerprints)

    def _refuse(self, graph: Graph) -> bool:
        """Whether a stage refuses what it is to read; the trials that need it fail."""
        refused = False
        for node in graph.pending():
            if node.awaits:
                continue
            try:
                node.stage.check(node.config, node.input_artifacts)
            except Exception as error:
                if not is_for_user(error):
                    raise
                self.fail(node.variants, str(error))
                refused = True
        return refused


def _trial(attempt: Attempt, members: Sequence[Member]) -> Trial:
    """With the means over its members, where all have been trained."""
    settings = {key: node.plain() for key, node in attempt.settings.items()}
    if attempt.error:
        return Trial(attempt.number, settings, error=attempt.error)
    trained = [member.nodes[scored_stage(member.config)] for member in members]
    digests = tuple(node.digest for node in trained)
    if not all(node.artifact.is_complete() for node in trained):
        return Trial(attempt.number, settings, error="it was stopped")
    found = [node.artifact.metrics() for node in trained]
    scores = {name: math.fsum(each[name] for each in found) / len(found) for name in (WER, LOSS)}
    if not all(map(math.isfinite, scores.values())):
        return Trial(attempt.number, settings, digests, error=f"it diverged: {scores}")
    return Trial(attempt.number, settings, digests, scores)
