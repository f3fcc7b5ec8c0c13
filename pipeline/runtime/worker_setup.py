"""What every Ray worker does first: keep Ray's own chatter off the user's screen."""

import logging
import os

import ray

_CLEANER = "ray.train.v2._internal.execution.controller.placement_group_cleaner"


def set_up_worker() -> None:
    """Ray calls this in each new worker process, by name.

    Ray Train's cleaner asks the dashboard every second whether the controller lives, and warns
    as often where there is none, as on a laptop. Its news of groups that start are no news: the
    stages say themselves how far they are.
    """
    # Where several Rays share a machine, the cleaner must not have to guess which one is its own.
    os.environ.setdefault("RAY_ADDRESS", ray.get_runtime_context().gcs_address)
    logging.getLogger(_CLEANER).setLevel(logging.CRITICAL)
    logging.getLogger("ray.train").setLevel(logging.WARNING)
