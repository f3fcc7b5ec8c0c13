"""What the driver does with MLflow: check it before the first stage, start runs, send what is left."""

import logging
import threading
from collections.abc import Callable, Mapping, Sequence

from pipeline.config import Config, Tracking, digest
from pipeline.redaction import redact
from pipeline.storage.artifacts import artifact
from pipeline.tracking.address import tracking_uri
from pipeline.tracking.event import RunName
from pipeline.tracking.failure import TrackingError, is_outage, one_line
from pipeline.tracking.outbox import Outbox
from pipeline.tracking.run import TrackingSpec
from pipeline.tracking.sender import Sender
from pipeline.tracking.tracker import Tracker, load

CHECK_SECONDS = 30.0
_START_SECONDS = 10.0
_END_SECONDS = 120.0

VARIANT_TAG = "pipeline.variant"
CONFIG_DIGEST_TAG = "pipeline.config_digest"
# Sections that change no result: they may differ between two runs of one variant.
_UNTRACKED_SECTIONS = {"storage", "tracking", "cluster"}

_logger = logging.getLogger("pipeline.tracking")


class TrackingSession:
    """The driver's connection to MLflow, for all variants of one storage.

    Its sender leads: it alone creates experiments and runs, and sends what workers left in the
    storage. With tracking disabled every method does nothing.
    """

    def __init__(self, tracking: Tracking, storage: str) -> None:
        self._tracking = tracking
        self._uri = tracking_uri(tracking, storage)
        self._outbox_uri = artifact(storage, "tracking", "outbox").uri
        self._sender = Sender(self._uri, self._outbox_uri, leads=True)

    def check(self) -> bool:
        """Reach MLflow and create the experiment, before any work starts.

        Returns whether it answered. If it did not, one line says so, and the run may go on;
        `failure.is_outage` decides which errors count as an outage.

        Raises:
            TrackingError: MLflow can never be used with these settings.
        """
        if not self._tracking.enabled:
            return False
        load()
        tracker = Tracker(self._uri, creates=True)
        try:
            _within(CHECK_SECONDS, lambda: tracker.ping(self._tracking.experiment))
        except TrackingError:
            raise
        except Exception as error:
            if is_outage(error):
                self._sender.report_outage(error)
                return False
            raise TrackingError(
                f"the MLflow tracker at {redact(self._uri)} cannot be used: {one_line(error)}. "
                "Check MLFLOW_TRACKING_URI or tracking.uri, or turn tracking off with "
                "--set tracking.enabled=false"
            ) from error
        return True

    def send_waiting(self) -> None:
        """Before work starts, spend some seconds on sending what earlier sessions left.

        Where nothing waits, MLflow is not contacted; what takes longer is left to `close`.
        """
        if self._has_waiting():
            self._sender.flush(_START_SECONDS, sweep=True)

    def start_variant(self, config: Config, tags: Mapping[str, str] | None = None) -> TrackingSpec:
        """The parent run of a variant: the one it had with these settings, or a new one.

        The config without storage, tracking and cluster, which change no result, is logged as
        parameters and tells two runs of one variant apart; `tags` are set and do not.
        """
        if not self._tracking.enabled or not config.tracking.enabled:
            return TrackingSpec.disabled()
        settings = config.model_dump(mode="json", exclude=_UNTRACKED_SECTIONS)
        name = redact(config.variant)
        identity = ((VARIANT_TAG, name), (CONFIG_DIGEST_TAG, digest(settings)))
        run_name = RunName(config.tracking.experiment, name, identity)
        run = TrackingSpec(self._uri, self._outbox_uri, run_name, sender=self._sender)
        run.start()
        run.log_params(settings)
        run.set_tags(tags or {})
        return run

    def close(self) -> str:
        """Send everything left, of this process and in the storage, for up to two minutes.

        Returns where in the storage the rest lies, or an empty string if nothing is left.
        """
        if not self._tracking.enabled:
            return ""
        self._sender.flush(_END_SECONDS, sweep=True)
        return self._outbox_uri if self._has_waiting() else ""

    def _has_waiting(self) -> bool:
        try:
            return self._tracking.enabled and bool(Outbox(self._outbox_uri).files())
        except OSError as error:
            _logger.warning("MLflow: the outbox cannot be read: %s", one_line(error))
            return False


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


def _within(seconds: float, function: Callable[[], None]) -> None:
    """Call `function`, which cannot be stopped, and wait no longer than `seconds` for it.

    Raises:
        TimeoutError: it takes longer.
    """
    errors: list[Exception] = []

    def call() -> None:
        try:
            function()
        except Exception as error:  # noqa: BLE001 - it is raised again below
            errors.append(error)

    thread = threading.Thread(target=call, daemon=True)
    thread.start()
    thread.join(seconds)
    if thread.is_alive():
        raise TimeoutError(f"no answer within {seconds:g} s")
    if errors:
        raise errors[0]
