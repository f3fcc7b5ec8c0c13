"""MLflow: a parent run for each variant, a child run for each stage; its failures never stop a run.

Logging puts an event into a queue of this process; a thread (`sender`) sends it, so no call waits for
the server. What a process cannot send before it ends goes to the storage (`outbox`) until a process
of the same run reaches the server. A run is identified by its experiment, name and tags
(`event.RunName`), not by an id that only the server could assign. With several training workers only
rank 0 may log; the caller must see to that.

Only `tracker` imports MLflow: planning a run does not need it.
"""

from pipeline.tracking.address import tracking_uri
from pipeline.tracking.event import RunName, Status
from pipeline.tracking.failure import TrackingError
from pipeline.tracking.run import StageRun, TrackingSpec, start_stage
from pipeline.tracking.session import VARIANT_TAG, TrackingSession, check_one_tracker

__all__ = [
    "VARIANT_TAG",
    "RunName",
    "StageRun",
    "Status",
    "TrackingError",
    "TrackingSession",
    "TrackingSpec",
    "check_one_tracker",
    "start_stage",
    "tracking_uri",
]
