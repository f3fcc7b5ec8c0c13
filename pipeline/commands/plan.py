"""`plan`: what is done, what would run and how much it would write, without Ray or torch."""

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from pipeline.commands.absent_splits import absent_splits
from pipeline.config import Config
from pipeline.corpus.fold import require_speakers
from pipeline.graph.disk_space import free_bytes, readable_bytes, require_space
from pipeline.graph.graph import Graph, Node, build
from pipeline.graph.stage import Estimate
from pipeline.graph.stage_code import changes
from pipeline.source_code import SourceCode
from pipeline.storage.artifacts import MANIFEST

CODE_CHANGED = (
    "Code has changed since outputs were made; if that changes results, raise `version` of"
)
Estimates = Mapping[tuple[str, str], Estimate]
Manifests = Mapping[tuple[str, str], Mapping[str, Any]]


def plan(configs: Sequence[Config], only: Sequence[str], console: Console) -> None:
    """Print every node with its state, and what the pending ones would read and write.

    Raises:
        CorpusError: there is no corpus, or it lacks a speaker whom `corpus.folds` names.
    """
    for config in configs:
        require_speakers(config.corpus)
    show(build(configs, only), configs[0].storage, console)


def show(graph: Graph, storage: str, console: Console) -> None:
    pending = {node.key: node.estimate() for node in graph.pending()}
    done = [node for node in graph.nodes if node.key not in pending]
    manifests = {node.key: node.artifact.read_json(MANIFEST) for node in done}
    console.print(_table(graph, pending, manifests))
    if changed := changes([(node, manifests[node.key]) for node in done], SourceCode()):
        lines = "\n  ".join([CODE_CHANGED, *changed])
        console.print(lines, soft_wrap=True, highlight=False, markup=False)
    if any(estimate.sampled for estimate in pending.values()):
        console.print("~ extrapolated from the headers of some of the audio files")
    for lack in dict.fromkeys(filter(None, map(absent_splits, graph.pending()))):
        console.print(f"{lack}.", style="yellow", soft_wrap=True, highlight=False, markup=False)
    for note in dict.fromkeys(note for node in graph.nodes for note in _skipped(node)):
        console.print(f"{note}.", soft_wrap=True, highlight=False)
    written = bytes_to_write(graph, pending)
    free = free_bytes(storage)
    room = "" if free is None else f", {readable_bytes(free)} free"
    console.print(
        f"{len(pending)} of {len(graph.nodes)} stages to run{_awaited(graph)}; "
        f"about {readable_bytes(written)} to write to {storage}{room}",
        highlight=False,
        markup=False,
    )


def _table(graph: Graph, pending: Estimates, manifests: Manifests) -> Table:
    table = Table(box=None, header_style="bold", pad_edge=False)
    table.add_column("stage", no_wrap=True)
    table.add_column("variants", overflow="fold")
    table.add_column("state", no_wrap=True)
    for name in ("took", "hours", "frames", "to write"):
        table.add_column(name, justify="right", no_wrap=True)
    for node in graph.nodes:
        variants = escape(", ".join(_variants(node)))
        if node.key in pending:
            state, took = f"[yellow]to run{'?' * bool(node.awaits)}[/]", "-"
        else:
            state, took = "[green]done[/]", f"{manifests[node.key]['seconds']:.0f} s"
        cells = _cells(pending.get(node.key, Estimate()))
        table.add_row(node.name, variants, state, took, *cells)
    return table


def _variants(node: Node) -> list[str]:
    """Each variant, and which of its members it is if the node is not for all of them."""
    return [
        f"{variant} ({', '.join(shared)})" if shared else variant
        for variant, shared in node.variants.items()
    ]


def _skipped(node: Node) -> list[str]:
    """What the plan did not look at."""
    notes = [source.skips for source in node.stage.sources(node.config).values() if source.skips]
    return [f"{note[0].upper()}{note[1:]}" for note in notes]


def _awaited(graph: Graph) -> str:
    """Which of them may turn out to be done already."""
    awaiting = [node for node in graph.nodes if node.awaits]
    outputs = " and ".join(sorted({node.awaits for node in awaiting}))
    return f", {len(awaiting)} of them (?) if {outputs} brings something new" if awaiting else ""


def check_space(graph: Graph, storage: str) -> None:
    """Reject a run that needs more space than the storage has.

    Raises:
        StorageFullError: the storage has less room than the pending stages are known to need.
    """
    pending = {node.key: node.estimate() for node in graph.pending()}
    largest = max(pending.values(), key=lambda estimate: estimate.bytes_written, default=Estimate())
    require_space(storage, bytes_to_write(graph, pending), largest)


def bytes_to_write(graph: Graph, pending: Estimates) -> int:
    """What the pending nodes will write, by their estimates."""
    nodes = (node for node in graph.nodes if node.key in pending)
    return sum(node.bytes_to_write(pending[node.key]) for node in nodes)


def _cells(estimate: Estimate) -> tuple[str, str, str]:
    """Hours, frames and bytes; a dash where nothing is known, `~` where a sample stands for all."""
    about = "~" * estimate.sampled
    hours = f"{about}{estimate.audio_seconds / 3600:.2f}" if estimate.audio_seconds else "-"
    frames = f"{about}{estimate.num_frames:,}" if estimate.num_frames else "-"
    written = f"{about}{readable_bytes(estimate.bytes_written)}" if estimate.bytes_written else "-"
    return hours, frames, written
