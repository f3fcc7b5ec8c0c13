"""MLflow: one parent run for each variant, one child run for each stage, and no harm from either.

What is logged goes into a queue of this process and is sent from a thread of its own (`sender`), so
that no call waits for the tracker. What a process cannot send before it ends lies in the storage
(`outbox`) until a process of the run finds the tracker alive. A run is named by what it is
(`event.RunName`), not by an id that only the tracker could give. With several training workers only
rank 0 may log: that is the caller's business.

MLflow is imported where it is talked to (`tracker`): planning a run needs none of it.
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
