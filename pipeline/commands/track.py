"""`track`: publish to MLflow what the storage holds of variants, as `run` does while it runs."""

from collections.abc import Callable, Sequence
from contextlib import suppress

from rich.console import Console

from pipeline.commands.report import REPORT, is_reported
from pipeline.commands.results import read_results, test_splits
from pipeline.config import Config
from pipeline.graph.graph import Graph, build
from pipeline.log.read_log import LogReader
from pipeline.metrics import comparison
from pipeline.redaction import redact
from pipeline.storage.artifacts import MANIFEST, Artifact, ArtifactError
from pipeline.storage.folders import Folder
from pipeline.storage.leases import is_being_made
from pipeline.storage.provenance import Provenance
from pipeline.tracking.description import variant_tags
from pipeline.tracking.failure import TrackingError, one_line
from pipeline.tracking.mlflow_run import Status
from pipeline.tracking.publication import End, has_begun
from pipeline.tracking.session import TrackingSession, check_one_tracker


def track(configs: Sequence[Config], uri: str, console: Console) -> bool:
    """Publish all that is stored, to `uri` or else to the configs' tracker; return whether all is.

    Raises:
        TrackingError: MLflow does not answer, or can never be used with these settings.
    """
    configs = [_enabled(config) for config in configs]
    check_one_tracker(configs)
    session = TrackingSession(configs[0].tracking, configs[0].storage, uri)
    if (outage := session.outage()) is not None:
        raise TrackingError(
            f"MLflow at {redact(session.uri)} does not answer, so nothing is published "
            f"({one_line(outage)}): start it, or name another with --uri or MLFLOW_TRACKING_URI, and give "
            "the command again"
        )
    graph = build(configs)
    is_complete = publish_stored(graph, configs, session, console)
    if is_complete:
        outputs = sum(map(has_begun, graph.nodes))
        line = (
            f"{len(configs)} variants and {outputs} stages are published to {redact(session.uri)}"
        )
        console.print(line, markup=False, highlight=False, soft_wrap=True)
    return is_complete


def publish_stored(
    graph: Graph, configs: Sequence[Config], session: TrackingSession, console: Console
) -> bool:
    """Publish variants with all that their stages have stored; return whether all is published."""
    start_variants(session, graph, configs, lambda config: _provenance(graph, config))
    for node in graph.pending():
        if has_begun(node):
            session.follow(node)
    end_variants(session, lambda: graph, configs, _status)
    return close(session, console)


def start_variants(
    session: TrackingSession,
    graph: Graph,
    configs: Sequence[Config],
    made_by: Callable[[Config], Provenance],
) -> None:
    """Publish variants, and the stages that are complete: what MLflow has of them is left as it is."""
    for config in _with_trainers(configs):
        session.start(config, variant_tags(config, made_by(config)))
    session.follow_complete(graph)


def end_variants(
    session: TrackingSession,
    current: Callable[[], Graph],
    configs: Sequence[Config],
    status: Callable[[Graph, Config], Status],
) -> None:
    """Say how variants have ended, with the scores they have by now."""
    everyone = _with_trainers(configs)
    storage = configs[0].storage
    rows: comparison.Rows = {}
    pages = set()
    try:
        graph = current()
        session.follow_complete(graph)  # other runs may have made some
        rows = comparison.with_reductions(read_results(graph, everyone).rows, test_splits(everyone))
        pages = {config.variant for config in configs} if is_reported(graph, storage) else set()
    except (ArtifactError, OSError):  # the storage cannot be read, as is reported already
        graph = Graph(())
    page = Artifact(Folder.at(storage).uri), REPORT
    for config in everyone:
        scores = comparison.headline(rows.get(config.variant, {}), config.corpus.scored_splits)
        shown = page if config.variant in pages else None
        session.end(config, End(status(graph, config), scores, shown))


def close(session: TrackingSession, console: Console) -> bool:
    """Publish the rest; return whether nothing is left, and say so otherwise."""
    if session.close():
        return True
    console.print(
        "MLflow has not received everything: the same command publishes the rest later.",
        markup=False,
        soft_wrap=True,
    )
    return False


def _provenance(graph: Graph, config: Config) -> Provenance:
    """That of a variant's last output, whichever process made it; empty without one."""
    nodes = [node for member in graph.members_of(config.variant) for node in member.nodes.values()]
    complete = [node.artifact for node in nodes if node.artifact.is_complete()]
    return complete[-1].read_json(MANIFEST) if complete else {}


def _status(graph: Graph, config: Config) -> Status:
    """How a variant stands by what its stages that have begun have stored."""
    nodes = {
        node.key: node
        for member in graph.members_of(config.variant)
        for node in member.nodes.values()
    }
    begun = [node for node in nodes.values() if has_begun(node)]
    unfinished = [node.artifact for node in begun if not node.artifact.is_complete()]
    if any(map(is_being_made, unfinished)):
        return "RUNNING"
    # A lease is released when the manifest is written, which may have been in this moment.
    stopped = [output for output in unfinished if not output.is_complete()]
    if not stopped:
        return "FINISHED"
    return "FAILED" if any(map(_has_failed, stopped)) else "KILLED"


def _has_failed(output: Artifact) -> bool:
    """By its log, as what MLflow shows of the stage itself."""
    with suppress(ValueError):  # damaged
        return any("error" in last for last in LogReader(output).new()[-1:])
    return False


def _enabled(config: Config) -> Config:
    """With tracking, which was asked for, also if the config turns it off."""
    tracking = config.tracking.model_copy(update={"enabled": True})
    return config.model_copy(update={"tracking": tracking})


def _with_trainers(configs: Sequence[Config]) -> list[Config]:
    """The configs and those whose trainings they need besides, each once."""
    everyone = (each for config in configs for each in (config, *config.trainers))
    return list({config.variant: config for config in everyone}.values())
