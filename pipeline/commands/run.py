"""`run`: from configs to the table of results, going on from whatever is already whole."""

import os
import shlex
import signal
import sys
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.console import Console

from pipeline import tracking
from pipeline.commands import compare, plan
from pipeline.commands.ui import ui_command
from pipeline.config import Config, ConfigError
from pipeline.graph.graph import Graph, build
from pipeline.metrics import comparison
from pipeline.redaction import redact
from pipeline.storage.artifacts import ArtifactError
from pipeline.tracking.description import variant_tags

if TYPE_CHECKING:
    from pipeline.metrics.comparison import Rows
    from pipeline.runtime.scheduler import Outcome
    from pipeline.tracking import Status


def run(configs: Sequence[Config], only: Sequence[str], console: Console) -> bool:
    """Run what the configs' graph still lacks; whether all of it is whole at the end.

    Raises:
        ConfigError, ArtifactError, TrackingError: a mistake found before any work starts. A tracker
            that does not answer is none: see `pipeline.tracking`.
    """
    storage = configs[0].storage
    _check_one_cluster(configs)
    tracking.check_one_tracker(configs)
    session = tracking.TrackingSession(configs[0].tracking, storage)
    graph = build(configs, only)
    plan.show(graph, storage, console)
    complete = True
    if graph.pending():
        plan.check_space(graph, storage)
        session.check()
        session.send_waiting()
        outcome = _execute(graph, configs, session, console)
        _show_failures(outcome, console)
        complete = not outcome.failed
    else:
        _send_rest(session, console)
    if not only:
        rows = compare.scores(graph, configs)
        compare.show(rows, configs, "table", console)
    _show_tracker(configs[0], console)
    return complete


def _execute(
    graph: Graph, configs: Sequence[Config], session: tracking.TrackingSession, console: Console
) -> "Outcome":
    # Importing torch in a process that has already run a Ray Data job can crash in its BLAS.
    import torch  # noqa: F401

    from pipeline.runtime.scheduler import execute
    from pipeline.runtime.session import ray_session

    started = time.monotonic()

    def say(line: str) -> None:
        minutes, seconds = divmod(int(time.monotonic() - started), 60)
        console.print(f"{minutes:3d}:{seconds:02d}  {line}", style="bold", markup=False)

    say("starting Ray")
    runs = {
        config.variant: session.start_variant(config, tags=variant_tags(config))
        for config in configs
    }
    status: Status = "KILLED"
    try:
        with ray_session(configs[0].cluster):
            # Ray's own handler aborts the process; whoever ends a job wants Ctrl-C's clean end.
            signal.signal(signal.SIGTERM, signal.default_int_handler)
            outcome = execute(graph, runs, say)
        status = "FAILED" if outcome.failed else "FINISHED"
    except KeyboardInterrupt:
        console.print("\nStopped. The same command goes on from what is whole.", style="bold")
        raise
    finally:
        for variant, scores in _scores_so_far(graph, configs).items():
            runs[variant].log_metrics(scores)
            runs[variant].finish(status)
        _send_rest(session, console)
    return outcome


def _send_rest(session: tracking.TrackingSession, console: Console) -> None:
    rest = session.close()
    if rest:
        console.print(
            f"MLflow does not have all of it yet: the rest waits in {redact(rest)}, and the next "
            "`run` sends it, whatever else there is to do.",
            markup=False,
            soft_wrap=True,
        )


def _scores_so_far(graph: Graph, configs: Sequence[Config]) -> "Rows":
    """Each variant's headline scores; none where the storage cannot be read, as already reported."""
    try:
        scores = compare.scores(graph, configs)
        rows = comparison.with_reductions(scores, compare.test_splits(configs))
        return {
            config.variant: comparison.headline(rows[config.variant], config.corpus.splits.test)
            for config in configs
        }
    except (ArtifactError, OSError):
        return {config.variant: {} for config in configs}


def _show_failures(outcome: "Outcome", console: Console) -> None:
    """What failed, why, what was not started for it, and the command that goes on."""
    if not outcome.failed:
        return
    console.print(f"\n{len(outcome.failed)} failed:", style="bold red")
    for failed in outcome.failed:
        console.print(f"  {failed.node.label}: {failed.error}", style="red", markup=False)
        if failed.log:
            console.print(f"    traceback: {failed.log}", markup=False, soft_wrap=True)
    if outcome.skipped:
        console.print("not started, since they need what failed:", style="bold")
        for skipped in outcome.skipped:
            console.print(f"  {skipped.node.label}: {skipped.error}", markup=False, soft_wrap=True)
    console.print("What is whole stays. Mend the cause, and go on with")
    console.print(f"  {redact(_same_again())}\n", markup=False, highlight=False, soft_wrap=True)


def _same_again() -> str:
    """This process's command; of a job, the one that submits it."""
    if "RAY_JOB_CONFIG_JSON_ENV_VAR" not in os.environ:
        return shlex.join(["python", "-m", "pipeline", *sys.argv[1:]])
    given = [one for one in sys.argv[2:] if one != "--set=cluster.address=auto"]
    return shlex.join(["python", "-m", "pipeline", "submit", *given])


def _show_tracker(config: Config, console: Console) -> None:
    if not config.tracking.enabled:
        return
    shown = ui_command(config.tracking, config.storage)
    console.print(f"Curves, figures and audio: {shown}", markup=False, soft_wrap=True)


def _check_one_cluster(configs: Sequence[Config]) -> None:
    addresses = {str(config.cluster.address) for config in configs}
    if len(addresses) > 1:
        raise ConfigError(
            f"the configs name different clusters ({', '.join(sorted(addresses))}): one run "
            "needs one cluster.address"
        )
