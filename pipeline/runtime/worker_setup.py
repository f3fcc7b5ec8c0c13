"""What every Ray worker does first: keep Ray's routine messages out of the logs."""

import logging
import os

import ray


def set_up_worker() -> None:
    """Ray calls this in each new worker process, by name.

    Where there is no dashboard, as on a laptop, a helper of Ray Train that asks it every second
    whether the controller is alive warns each time.
    """
    # Where several Rays share a machine, that helper must not have to guess which one is its own.
    os.environ.setdefault("RAY_ADDRESS", ray.get_runtime_context().gcs_address)
    logging.getLogger("ray.train").setLevel(logging.ERROR)
