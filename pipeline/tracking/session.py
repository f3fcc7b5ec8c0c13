"""What the driver does with MLflow: check it before the first stage, publish, see to the rest."""

from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import suppress

from pipeline.config import Config, Tracking, digest
from pipeline.graph.graph import Graph, Node
from pipeline.redaction import redact
from pipeline.storage.artifacts import ArtifactError, artifact
from pipeline.tracking.address import tracking_uri
from pipeline.tracking.failure import TrackingError, is_outage, one_line
from pipeline.tracking.publication import End, StagePublication, VariantPublication
from pipeline.tracking.publisher import Publisher
from pipeline.tracking.run_name import name_of_variant
from pipeline.tracking.tracker import Tracker, load

CHECK_SECONDS = 30.0
_END_SECONDS = 120.0


class TrackingSession:
    """The driver's view of some variants at MLflow, for one run of them.

    While it is open, a mark in the storage says of each variant that not all of it is published.
    With tracking disabled every method does nothing.
    """

    def __init__(self, tracking: Tracking, storage: str, uri: str = "") -> None:
        """`uri` takes precedence over what settings and environment name."""
        self._tracking = tracking
        self.uri = tracking_uri(tracking, storage, uri)
        self._publisher = Publisher(Tracker(self.uri))
        self._marks = Marks(storage)
        self._variants: dict[str, VariantPublication] = {}

    def check(self) -> bool:
        """Reach MLflow and create the experiment, before any work starts; return whether it answered.

        If it did not, one line says so, and the run may go on.

        Raises:
            TrackingError: MLflow can never be used with these settings.
        """
        if not self._tracking.enabled:
            return False
        if (outage := self.outage()) is not None:
            self._publisher.report_outage(outage)
        return outage is None

    def outage(self) -> BaseException | None:
        """Reach MLflow and create the experiment; return why it does not answer, if it does not.

        `failure.is_outage` decides which errors count as an outage.

        Raises:
            TrackingError: MLflow can never be used with these settings.
        """
        load()
        pool = ThreadPoolExecutor(1)
        answer = pool.submit(Tracker(self.uri).ping, self._tracking.experiment)
        pool.shutdown(wait=False)
        wait([answer], CHECK_SECONDS)
        silence = TimeoutError(f"no answer within {CHECK_SECONDS:g} s")
        error = answer.exception() if answer.done() else silence
        if error is None or is_outage(error):
            return error
        if isinstance(error, TrackingError):
            raise error
        raise TrackingError(
            f"the MLflow tracker at {redact(self.uri)} cannot be used: {one_line(error)}. "
            "Check MLFLOW_TRACKING_URI or tracking.uri, or turn tracking off with "
            "--set tracking.enabled=false"
        ) from error

    def start(self, config: Config, tags: Mapping[str, str]) -> None:
        """Publish a variant: as the run it had with these settings, or a new one.

        The config without storage, tracking and cluster, which change no result, is logged as
        parameters and tells two runs of one variant apart; `tags` are set and do not.
        """
        if self._tracking.enabled and config.tracking.enabled:
            self._marks.set(config)
            self._variants[config.variant] = made = VariantPublication(config, tags)
            self._publisher.add(made)

    def follow(self, node: Node) -> None:
        """Publish what a stage has stored and will store."""
        variant = self._variants.get(node.config.variant)
        if variant is not None:
            self._publisher.add(StagePublication(node, variant.name))

    def follow_complete(self, graph: Graph) -> None:
        """Publish what earlier runs have stored, as far as MLflow does not have it."""
        pending = {node.key for node in graph.pending()}
        for node in graph.nodes:
            if node.key not in pending:
                self.follow(node)

    def end(self, config: Config, end: End) -> None:
        """Say how a variant has ended."""
        if config.variant in self._variants:
            self._variants[config.variant].end(end)

    def close(self) -> bool:
        """Publish what is left, for up to two minutes; return whether nothing is.

        Stages that have neither finished nor failed by now were killed.
        """
        if not self._publisher.close(_END_SECONDS):
            return False
        self._marks.clear(each.config for each in self._variants.values())
        return True

    def left_over(self, configs: Sequence[Config]) -> bool:
        """Whether an earlier run of these variants has not published everything."""
        wanted = [config for config in configs if config.tracking.enabled]
        return self._tracking.enabled and self._marks.any_of(wanted)


class Marks:
    """Which variants may not be published completely: a file in the storage for each."""

    def __init__(self, storage: str) -> None:
        self._folder = artifact(storage, "tracking", "unpublished")

    def set(self, config: Config) -> None:
        with suppress(ArtifactError, OSError):  # the stages report a full storage
            self._folder.write_json(_mark(config), {"variant": redact(config.variant)})

    def clear(self, configs: Iterable[Config]) -> None:
        for config in configs:
            with suppress(OSError):
                self._folder.delete(_mark(config))

    def any_of(self, configs: Iterable[Config]) -> bool:
        try:
            return not {_mark(config) for config in configs}.isdisjoint(self._folder.names())
        except OSError:
            return False


def _mark(config: Config) -> str:
    name = name_of_variant(config)
    return f"{digest([name.experiment, *name.tags.items()])}.json"


def tracking_of(configs: Sequence[Config]) -> Tracking:
    """Where configs with one tracker are published: as the first says that is published at all."""
    return next((each.tracking for each in configs if each.tracking.enabled), configs[0].tracking)


def check_one_tracker(configs: Sequence[Config]) -> None:
    """Refuse configs that name different trackers, since one session serves all of them.

    Raises:
        TrackingError: says which addresses were named.
    """
    uris = {tracking_uri(each.tracking, each.storage) for each in configs if each.tracking.enabled}
    if len(uris) > 1:
        named = ", ".join(sorted(redact(uri) for uri in uris))
        raise TrackingError(
            f"the configs name different MLflow trackers ({named}): one run needs one tracking.uri"
        )
