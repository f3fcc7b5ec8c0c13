"""Reports from other processes reach the driver; without a mailbox the work goes on."""

import sys
import time

import pytest
import ray

from pipeline.progress import Report
from pipeline.runtime.progress_channel import ProgressChannel

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("local_ray")]

PATIENCE_SECONDS = 60.0


@pytest.fixture(autouse=True)
def functions_travel():
    """Workers cannot import this file, so its functions are sent to them."""
    ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])
    yield
    ray.cloudpickle.unregister_pickle_by_value(sys.modules[__name__])


def work(progress, last):
    for step in range(1, last + 1):
        progress.update(step, last, "steps")
    progress.message("rests")
    return last


def receive(channel, wanted):
    """What arrives until `wanted` does."""
    deadline, items = time.monotonic() + PATIENCE_SECONDS, []
    while wanted not in items:
        assert time.monotonic() < deadline, items
        items += channel.poll(0.1)
    return items


def test_the_latest_report_and_every_message_arrive_with_their_label():
    channel = ProgressChannel()
    remote = ray.remote(work).options(num_cpus=0)
    references = [remote.remote(channel.progress(label), 5) for label in ("a", "b")]
    assert ray.get(references) == [5, 5]
    items = receive(channel, ("a", "rests")) + channel.poll(1.0) + channel.poll(1.0)
    assert ("b", "rests") in items
    assert ("a", Report(5, 5, "steps")) in items
    channel.close()
    assert channel.poll() == []


def test_work_does_not_need_the_mailbox():
    channel = ProgressChannel()
    channel.close()
    progress = channel.progress("a")
    assert ray.get(ray.remote(work).options(num_cpus=0).remote(progress, 1000)) == 1000
    assert channel.poll() == []
