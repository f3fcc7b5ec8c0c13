"""What the driver does with the tracker before the first stage and after the last."""

import logging
import threading
from collections.abc import Callable

from pipeline.config import Tracking
from pipeline.redaction import redact
from pipeline.tracking.address import tracking_uri
from pipeline.tracking.failure import TrackingError, is_outage, one_line
from pipeline.tracking.outbox import Outbox, outbox_uri
from pipeline.tracking.sender import Sender, sender
from pipeline.tracking.tracker import Tracker, load

CHECK_SECONDS = 30.0
_START_SECONDS = 10.0
_END_SECONDS = 120.0

_logger = logging.getLogger("pipeline.tracking")


def check(tracking: Tracking, storage: str) -> bool:
    """Reach the tracker and make the experiment there, before any work starts.

    Returns whether it answered; where it did not, one line says so, and the run may go on. Where
    the line lies between the two is told by `failure.is_outage`.

    Raises:
        TrackingError: it can never be used as it is given.
    """
    if not tracking.enabled:
        return False
    uri = tracking_uri(tracking, storage)
    load()
    try:
        _within(CHECK_SECONDS, lambda: Tracker(uri).ping(tracking.experiment, creates=True))
    except TrackingError:
        raise
    except Exception as error:
        if is_outage(error):
            _sender(tracking, storage).tell_silence(error)
            return False
        raise TrackingError(
            f"the MLflow tracker at {redact(uri)} cannot be used: {one_line(error)}. Check "
            "MLFLOW_TRACKING_URI or tracking.uri, or switch it off with "
            "--set tracking.enabled=false"
        ) from error
    return True


def send_waiting(tracking: Tracking, storage: str) -> None:
    """Before work starts, send what earlier sessions had to leave in the storage, for some seconds.

    Where nothing waits no tracker is asked; what takes longer is left to `close`.
    """
    if _has_waiting(tracking, storage):
        _sender(tracking, storage).flush(_START_SECONDS, sweep=True)


def close(tracking: Tracking, storage: str) -> str:
    """Send all that is left, of this process and in the storage; after two minutes, leave it there.

    Returns where in the storage the rest lies, and nothing where there is no rest.
    """
    if not tracking.enabled:
        return ""
    _sender(tracking, storage).flush(_END_SECONDS, sweep=True)
    return outbox_uri(storage) if _has_waiting(tracking, storage) else ""


def _has_waiting(tracking: Tracking, storage: str) -> bool:
    try:
        return tracking.enabled and bool(Outbox(outbox_uri(storage)).files())
    except OSError as error:
        _logger.warning("MLflow: the outbox cannot be read: %s", one_line(error))
        return False


def _sender(tracking: Tracking, storage: str) -> Sender:
    leading = sender(tracking_uri(tracking, storage), outbox_uri(storage))
    leading.leads = True
    return leading


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
