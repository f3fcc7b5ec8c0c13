"""`plan`: what is done, what would run and how much it would write, without Ray or torch."""

from collections.abc import Sequence

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from pipeline.config import Config
from pipeline.graph.disk_space import free_bytes, readable_bytes, require_space
from pipeline.graph.graph import Graph, Node, build
from pipeline.graph.stage import Estimate
from pipeline.storage.artifacts import MANIFEST


def plan(configs: Sequence[Config], only: Sequence[str], console: Console) -> None:
    """Print every node with its state, and what the pending ones would read and write."""
    show(build(configs, only), configs[0].storage, console)


def show(graph: Graph, storage: str, console: Console) -> None:
    estimates = {node.key: node.estimate() for node in graph.pending()}
    table = Table(box=None, header_style="bold", pad_edge=False)
    for name in ("stage", "variants", "state"):
        table.add_column(name, overflow="fold")
    for name in ("took", "hours", "frames", "to write"):
        table.add_column(name, justify="right", no_wrap=True)
    for node in graph.nodes:
        variants = escape(", ".join(node.variants))
        if node.key in estimates:
            state, took = _to_run(node), "-"
        else:
            seconds = node.artifact.read_json(MANIFEST)["seconds"]
            state, took = "[green]done[/]", f"{seconds:.0f} s"
        cells = _cells(estimates.get(node.key, Estimate()))
        table.add_row(node.name, variants, state, took, *cells)
    console.print(table)
    if any(estimate.sampled for estimate in estimates.values()):
        console.print("~ extrapolated from the headers of some of the audio files")
    written = bytes_to_write(graph.pending())
    free = free_bytes(storage)
    room = "" if free is None else f", {readable_bytes(free)} free"
    console.print(
        f"{len(estimates)} of {len(graph.nodes)} stages to run{_awaited(graph)}; "
        f"about {readable_bytes(written)} to write to {storage}{room}",
        highlight=False,
        markup=False,
    )


def _to_run(node: Node) -> str:
    return f"[yellow]after {node.awaits}[/]" if node.awaits else "[yellow]to run[/]"


def _awaited(graph: Graph) -> str:
    """Which of them may turn out to be done already."""
    awaiting = [node for node in graph.nodes if node.awaits]
    outputs = " and ".join(sorted({node.awaits for node in awaiting}))
    return f", {len(awaiting)} of them if {outputs} brings something new" if awaiting else ""


def check_space(graph: Graph, storage: str) -> None:
    """Reject a run that needs more space than the storage has.

    Raises:
        StorageFullError: the storage has less room than the pending stages are known to need.
    """
    pending = graph.pending()
    estimates = [node.estimate() for node in pending]
    largest = max(estimates, key=lambda estimate: estimate.bytes_written, default=Estimate())
    require_space(storage, bytes_to_write(pending), largest)


def bytes_to_write(nodes: Sequence[Node]) -> int:
    return sum(node.bytes_to_write() for node in nodes)


def _cells(estimate: Estimate) -> tuple[str, str, str]:
    """Hours, frames and bytes; a dash where nothing is known, `~` where a sample stands for all."""
    about = "~" * estimate.sampled
    hours = f"{about}{estimate.audio_seconds / 3600:.2f}" if estimate.audio_seconds else "-"
    frames = f"{about}{estimate.num_frames:,}" if estimate.num_frames else "-"
    written = f"{about}{readable_bytes(estimate.bytes_written)}" if estimate.bytes_written else "-"
    return hours, frames, written
