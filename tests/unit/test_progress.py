"""Reports of a stage: throttled where they are sent, picklable, and never an error of the work."""

import pickle

import pytest

from pipeline import progress
from pipeline.progress import Progress, Report


@pytest.fixture
def clock(monkeypatch):
    """A clock that stands still until the test moves it."""
    now = [100.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    return now


def test_a_loop_that_reports_at_every_step_sends_one_report_a_second(clock):
    sent = []
    reporter = Progress(sent.append)
    for step in range(1000):
        clock[0] = 100 + 0.01 * step
        reporter.update(step, 2000, "steps", "loss 1")
    assert 9 <= len(sent) <= 11
    assert sent[0] == Report(0, 2000, "steps", "loss 1")


def test_hours_that_are_summed_in_another_order_are_the_end_too(clock):
    sent = []
    reporter = Progress(sent.append)
    reporter.update(0.1, 0.1 + 0.2 + 0.3, "h")
    reporter.update(0.3 + 0.2 + 0.1, 0.1 + 0.2 + 0.3, "h")
    assert len(sent) == 2


def test_the_end_another_unit_and_messages_are_sent_at_once(clock):
    sent = []
    reporter = Progress(sent.append)
    reporter.update(1, 3, "shards")
    reporter.update(2, 3, "shards")
    reporter.update(3, 3, "shards")
    reporter.update(1, 9, "passes")
    reporter.message("resumes at epoch 2")
    assert sent == [
        Report(1, 3, "shards"),
        Report(3, 3, "shards"),
        Report(1, 9, "passes"),
        "resumes at epoch 2",
    ]


def test_a_report_that_cannot_be_sent_is_dropped():
    tried = []

    def fail(item):
        tried.append(item)
        raise OSError("nobody is there")

    reporter = Progress(fail)
    reporter.update(1, 2, "steps")
    reporter.message("is still at work")
    assert tried == [Report(1, 2, "steps"), "is still at work"]


def test_on_another_machine_the_clock_starts_anew(clock):
    reporter = Progress()
    reporter.update(1, 10, "steps")
    clock[0] = 1.0  # the other machine has just been switched on
    copy = pickle.loads(pickle.dumps(reporter))  # noqa: S301 (made here)
    sent = []
    copy._send = sent.append
    copy.update(2, 10, "steps")
    assert sent == [Report(2, 10, "steps")]
