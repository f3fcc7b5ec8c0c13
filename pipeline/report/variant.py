"""A variant as the page shows it: its trainings, and what of them can be read."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

import pyarrow as pa

from pipeline.config import Config
from pipeline.graph.graph import Graph, Member, Node
from pipeline.metrics import comparison
from pipeline.redaction import redact

_Read = TypeVar("_Read")


@dataclass(frozen=True)
class Variant:
    """One variant in its place of the comparison, which gives it its colour.

    `complete` are the keys of the outputs that are. `notes` are added while it is read: they say what
    cannot be.
    """

    place: int
    config: Config
    members: tuple[Member, ...]
    complete: frozenset[tuple[str, str]]
    notes: list[str] = field(default_factory=list)

    @property
    def name(self) -> str:
        return self.config.variant

    def tokens(self, split: str) -> Node | None:
        """The output that holds the first training's units of `split`."""
        has_audio = self.config.corpus.has_audio
        return self.first(f"tokenize_corpus/{split}" if has_audio else "prepare_corpus")

    def first(self, name: str) -> Node | None:
        """The first of `outputs`."""
        return next(self.outputs(name), None)

    def outputs(self, name: str) -> Iterator[Node]:
        """The complete outputs of this name (`evaluate_asr/test`), of each member that has one."""
        nodes = [member.nodes[name] for member in self.members if name in member.nodes]
        unique = {node.key: node for node in nodes}
        yield from (node for key, node in unique.items() if key in self.complete)

    def made(self, member: Member, name: str) -> Node | None:
        """The output of this name of one member, if it is complete."""
        node = member.nodes.get(name)
        return node if node is not None and node.key in self.complete else None

    def shown(self, split: str) -> Member:
        """The first member of which most can be looked at and listened to in a test split."""
        stages = ("evaluate_resynthesis", "evaluate_asr", "tokenize_corpus")

        def there_is(member: Member) -> tuple[bool, ...]:
            named = (*(f"{stage}/{split}" for stage in stages), "prepare_corpus")
            return tuple(self.made(member, name) is not None for name in named)

        return max(self.members, key=there_is)

    def read(self, what: str, read: Callable[[], _Read]) -> _Read | None:
        """What `read` returns; None and a note if it cannot be read."""
        try:
            return read()
        except (RuntimeError, OSError, pa.ArrowException, ValueError, LookupError) as error:
            self.notes.append(f"{self.name}: {what} cannot be read: {redact(str(error))}")
            return None


def variants(graph: Graph, configs: Sequence[Config]) -> list[Variant]:
    """The variants in the order of the comparison."""
    ordered = sorted(configs, key=lambda config: comparison.place(config.variant))
    complete = frozenset(node.key for node in graph.nodes if node.artifact.is_complete())
    return [
        Variant(place, config, graph.members_of(config.variant), complete)
        for place, config in enumerate(ordered)
    ]
