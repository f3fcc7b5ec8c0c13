import torch

from pipeline.training.step_costs import StepCosts, peak_bytes
from pipeline.training.worker import Worker


class SlowCompany(Worker):
    """One of two workers; the other one took twice as long for everything."""

    def max(self, values):
        return 2 * values


def test_a_report_is_of_the_steps_since_the_last_one():
    costs = StepCosts()
    costs.step(audio_seconds=60.0, seconds=2.0, waited=0.5)
    costs.report(Worker())
    for audio_seconds in (80.0, 40.0):
        costs.step(audio_seconds, seconds=3.0, waited=1.0)
    report = costs.report(Worker())
    peak_gib = report.pop("peak_memory_gib")
    assert report == {
        "step_seconds": 3.0,
        "data_wait_seconds": 1.0,
        "audio_seconds_per_second": 20.0,
    }
    assert 0.01 < peak_gib == peak_bytes(torch.device("cpu")) / 2**30


def test_the_slowest_worker_sets_the_pace():
    costs = StepCosts()
    costs.step(audio_seconds=60.0, seconds=3.0, waited=0.5)
    report = costs.report(SlowCompany())
    assert report["step_seconds"] == 6.0
    assert report["data_wait_seconds"] == 1.0
    assert report["audio_seconds_per_second"] == 10.0
