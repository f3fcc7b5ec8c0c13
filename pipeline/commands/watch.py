"""`watch`: show a run, whichever process or job does it, from what its stages store."""

import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field

from rich.console import Console

from pipeline.commands.run_display import RunDisplay
from pipeline.config import Config
from pipeline.graph.graph import Graph, Node, build
from pipeline.graph.sources import Fingerprints
from pipeline.log.follow import shown
from pipeline.log.read_log import Entry, LogReader
from pipeline.storage.artifacts import MANIFEST
from pipeline.storage.leases import PAUSE_SECONDS, Pulse, is_being_made

LOOK_SECONDS = 1.0
# To look at a storage that is slow takes at most this share of the time.
LOOK_SHARE = 0.05
# Between two stages nobody works on anything for a while.
IDLE_SECONDS = 30.0


def watch(configs: Sequence[Config], console: Console) -> bool:
    """Show the stages of the configs until all are complete, or nobody works on those that are left.

    Returns whether all are complete.
    """
    with RunDisplay(console) as display, suppress(KeyboardInterrupt):
        watched = _Watch(configs, display)
        heard = time.monotonic()
        while watched.look():
            looked = time.monotonic()
            heard = looked if watched.is_made else heard
            if looked - heard > IDLE_SECONDS:
                display.line(f"nobody works on what is left, {watched.what_is_left}")
                return False
            time.sleep(watched.wait_seconds)
        return True
    return False


@dataclass
class _Stage:
    """What has been seen of a stage; it is `shown` while it runs."""

    node: Node
    reader: LogReader
    pulse: Pulse
    is_shown: bool = False
    last: Entry = field(default_factory=dict)


class _Watch:
    """The stages of some configs, as far as they have been seen.

    Attributes:
        is_made: some stage was being made at the last look.
        what_is_left: how many stages were not complete then, and of how many.
        wait_seconds: until the next look.
    """

    def __init__(self, configs: Sequence[Config], display: RunDisplay) -> None:
        self._configs = configs
        self._display = display
        self._fingerprints = Fingerprints()
        self._stages: dict[tuple[str, str], _Stage] = {}
        self._complete: set[tuple[str, str]] = set()
        self._graph = self._build()
        self.is_made = False
        self.what_is_left = ""
        self.wait_seconds = LOOK_SECONDS

    def look(self) -> bool:
        """Show what is new; return whether there is anything left."""
        started = time.monotonic()
        self.is_made = False
        for node in self._graph.nodes:
            if node.key not in self._complete and self._is_ready(node):
                self._look_at(self._stages.setdefault(node.key, _stage(node)))
        num_left = len({node.key for node in self._graph.nodes} - self._complete)
        self.what_is_left = f"{num_left} of {len(self._graph.nodes)} stages"
        took = time.monotonic() - started
        # After a longer pause a run that is silent would not be taken for dead.
        self.wait_seconds = min(max(LOOK_SECONDS, took / LOOK_SHARE), PAUSE_SECONDS / 2)
        return num_left > 0

    def _build(self) -> Graph:
        return build(self._configs, fingerprints=self._fingerprints)

    def _is_ready(self, node: Node) -> bool:
        return not node.awaits and self._complete.issuperset(node.inputs.items())

    def _look_at(self, stage: _Stage) -> None:
        node = stage.node
        # In this order: a stage ends its log, writes its manifest, and then its lease is released.
        is_made = is_being_made(node.artifact, stage.pulse)
        is_complete = node.artifact.is_complete()
        entries = _new_entries(stage.reader)
        stage.last = entries[-1] if entries else stage.last
        self.is_made |= is_made
        if is_made and not stage.is_shown:
            stage.is_shown = True
            self._display.start(node.label)
        if stage.is_shown:
            self._show(node.label, entries)
        if is_complete:
            self._end(stage, done(node))
            self._complete.add(node.key)
            if node.stage.has_parts:
                self._graph = self._build()
        elif not is_made and "error" in stage.last and (stage.is_shown or entries):
            self._end(stage, f"FAILED: {stage.last['error']}")
        elif not is_made and stage.is_shown:
            self._end(stage, "was stopped")

    def _show(self, label: str, entries: list[Entry]) -> None:
        for item in shown(entries):
            if isinstance(item, str):
                self._display.line(f"{label} {item}")
            else:
                self._display.show(label, item)

    def _end(self, stage: _Stage, text: str) -> None:
        if stage.is_shown:
            self._display.end(stage.node.label, text)
        else:
            self._display.line(f"{stage.node.label} {text}")
        stage.is_shown = False


def _stage(node: Node) -> _Stage:
    return _Stage(node, LogReader(node.artifact), Pulse())


def _new_entries(reader: LogReader) -> list[Entry]:
    """What has been written; nothing if a part is damaged, on which no result depends."""
    try:
        return reader.new()
    except ValueError:
        return []


def done(node: Node) -> str:
    """How a complete stage has ended, in a few words."""
    seconds = node.artifact.read_json(MANIFEST)["seconds"]
    return f"done in {seconds:.1f} s{node.stage.headline_of(node.artifact.metrics())}"
