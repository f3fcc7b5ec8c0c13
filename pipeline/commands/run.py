"""`run`: from configs to the table of results, keeping every output that is already complete."""

import os
import shlex
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich.console import Console

from pipeline.commands import compare, plan
from pipeline.commands.compare import compared
from pipeline.commands.report import add_report, is_reported
from pipeline.commands.run_display import RunDisplay
from pipeline.commands.track import close, end_variants, publish_stored, start_variants
from pipeline.commands.ui import ui_command
from pipeline.config import Cluster, Config, ConfigError
from pipeline.corpus.fold import require_speakers
from pipeline.graph.graph import Graph, build
from pipeline.graph.sources import Fingerprints
from pipeline.redaction import redact
from pipeline.storage.owner import command_line
from pipeline.storage.provenance import provenance
from pipeline.storage.writable import require_writable
from pipeline.tracking.session import TrackingSession, check_one_tracker, tracking_of

if TYPE_CHECKING:
    from pipeline.metrics.comparison import Comparison
    from pipeline.runtime.scheduler import Outcome
    from pipeline.tracking.mlflow_run import Status

# The stages whose outputs hold a model, which the end of a run names.
TRAININGS = ("train_joint", "train_token_asr")


def run(configs: Sequence[Config], only: Sequence[str], console: Console) -> bool:
    """Run the pending stages of the configs' graph; return whether all are complete at the end.

    Raises:
        ConfigError, CorpusError, ArtifactError, TrackingError: a mistake found before any work starts. A tracker
            that does not answer is not a mistake: see `pipeline.tracking`.
    """
    storage = configs[0].storage
    check_one_cluster(configs)
    check_one_tracker(configs)
    for config in configs:
        require_speakers(config.corpus)
    session = TrackingSession(tracking_of(configs), storage)
    fingerprints = Fingerprints()

    def current() -> Graph:
        return build(configs, only, fingerprints=fingerprints)

    graph = current()
    plan.show(graph, storage, console)
    complete, found = True, None
    if graph.pending():
        plan.check_space(graph, storage)
        graph.check()
        require_writable(storage)
        session.check()
        outcome, found = _execute(current, configs, session, console, compares=not only)
        _show_failures(outcome, console)
        complete, graph = not outcome.failed, current()
    else:
        found = None if only else compared(graph, configs)
        if found and not is_reported(graph, storage):
            add_report(graph, configs, found, console)
        if session.left_over(configs):
            publish_stored(graph, configs, session, console)
    if found:
        compare.show(found, "table", console)
        _show_models(graph, console)
    show_tracker(configs[0], console)
    return complete


def _execute(
    current: Callable[[], Graph],
    configs: Sequence[Config],
    session: TrackingSession,
    console: Console,
    *,
    compares: bool,
) -> "tuple[Outcome, Comparison | None]":
    """What became of the stages, and the scores afterwards if it `compares` them; the page has both."""
    made_by = provenance()
    start_variants(session, current(), configs, lambda _config: made_by)
    status: Status = "KILLED"
    try:
        with on_ray(configs[0].cluster, console) as display:
            from pipeline.runtime.scheduler import execute  # imports Ray, so not earlier

            outcome = execute(current, display, session.follow)
        status = "FAILED" if outcome.failed else "FINISHED"
        graph = current()
        found = compared(graph, configs) if compares else None
        if found:
            add_report(graph, configs, found, console)
    finally:
        end_variants(session, current, configs, lambda _graph, _config: status)
        close(session, console)
    return outcome, found


@contextmanager
def on_ray(cluster: Cluster, console: Console) -> Iterator[RunDisplay]:
    """Ray, and a display of what runs on it, for the length of the block."""
    # Importing torch in a process that has already run a Ray Data job can crash in its BLAS.
    import torch  # noqa: F401

    from pipeline.runtime.session import ray_session

    try:
        with RunDisplay(console) as display:
            display.line("starting Ray")
            with ray_session(cluster) as remark:
                if remark:
                    display.line(remark)
                # Ray's own handler aborts the process; a job that is stopped should end as cleanly
                # as after Ctrl-C.
                signal.signal(signal.SIGTERM, signal.default_int_handler)
                yield display
    except KeyboardInterrupt:
        console.print("\nStopped. The same command resumes where this one stopped.", style="bold")
        raise


def _show_failures(outcome: "Outcome", console: Console) -> None:
    """Print what failed and why, what was therefore not started, and the command that resumes."""
    if not outcome.failed:
        return
    console.print(f"\n{len(outcome.failed)} failed:", style="bold red")
    for failed in outcome.failed:
        console.print(f"  {failed.node.label}: {failed.error}", style="red", markup=False)
        if failed.log:
            console.print(f"    traceback: {failed.log}", markup=False, soft_wrap=True)
    if outcome.skipped:
        console.print("not started, because they need what failed:", style="bold")
        for skipped in outcome.skipped:
            console.print(f"  {skipped.node.label}: {skipped.error}", markup=False, soft_wrap=True)
    console.print("Completed stages are kept. Fix the cause, then resume with")
    console.print(f"  {redact(_same_command())}\n", markup=False, highlight=False, soft_wrap=True)


def _same_command() -> str:
    """This process's command; in a job, the command that submits it."""
    if "RAY_JOB_CONFIG_JSON_ENV_VAR" not in os.environ:
        return command_line()
    arguments = [each for each in sys.argv[2:] if each != "--set=cluster.address=auto"]
    return shlex.join(["python", "-m", "pipeline", "submit", *arguments])


def _show_models(graph: Graph, console: Console) -> None:
    for member in graph.members:
        for node in (member.nodes[stage] for stage in TRAININGS if stage in member.nodes):
            if node.artifact.is_complete():
                whose = ", ".join(filter(None, (member.config.variant, member.name)))
                line = f"Model of {whose}: {redact(node.artifact.uri)}"
                console.print(line, markup=False, highlight=False, soft_wrap=True)


def show_tracker(config: Config, console: Console) -> None:
    """Print the command that opens MLflow."""
    if not config.tracking.enabled:
        return
    shown = ui_command(config.tracking, config.storage)
    console.print(f"Curves, figures and audio: {shown}", markup=False, soft_wrap=True)


def check_one_cluster(configs: Sequence[Config]) -> None:
    """Refuse configs that name different clusters.

    Raises:
        ConfigError: says which addresses were named.
    """
    addresses = {str(config.cluster.address) for config in configs}
    if len(addresses) > 1:
        raise ConfigError(
            f"the configs name different clusters ({', '.join(sorted(addresses))}): one run "
            "needs one cluster.address"
        )
