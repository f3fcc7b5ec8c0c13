"""The objective against its formula, as one worker computes it and as several share it."""

import pytest
import torch

from pipeline.audio.utterance import Utterance
from pipeline.training.inputs import Example
from pipeline.training.objective import Objective, divisors_of
from pipeline.training.worker import Worker

SUMS = {"ctc": torch.tensor(12.0), "attention": torch.tensor(6.0), "kmeans": torch.tensor(50.0)}


def example(seconds, num_pieces):
    utterance = Utterance("a", "train", "a.wav", 0.0, seconds, "speaker", "text")
    return Example(utterance, tuple(range(num_pieces)))


def test_divisors_are_pieces_with_their_ends_and_nominal_frames():
    divisors = divisors_of([example(1.5, 3), example(0.5, 1)], 50.0)
    assert (divisors["ctc"], divisors["attention"], divisors["kmeans"]) == (6.0, 6.0, 100.0)
    assert divisors_of([example(1.5, 3)], 12.5)["kmeans"] == 18.75
    assert divisors_of([example(0.001, 0)], 50.0)["kmeans"] == 1.0


@pytest.mark.parametrize("with_units", [True, False])
def test_the_loss_is_the_weighted_sum_and_the_report_repeats_it(with_units):
    objective = Objective(ctc_weight=0.3, kmeans_weight=0.5)
    divisors = {"ctc": 6.0, "attention": 6.0, "kmeans": 100.0}
    sums = SUMS if with_units else {name: SUMS[name] for name in ("ctc", "attention")}
    expected = 0.3 * 12 / 6 + 0.7 * 6 / 6 + 0.5 * (50 / 100 if with_units else 0)
    assert float(objective.loss(sums, divisors)) == pytest.approx(expected)
    report = objective.report(objective.parts(sums, divisors), Worker())
    assert report["loss"] == pytest.approx(expected)
    assert report["asr_loss"] == pytest.approx(0.3 * 12 / 6 + 0.7 * 6 / 6)
    assert [report[name] for name in ("ctc", "attention", "kmeans")] == pytest.approx(
        [2.0, 1.0, 0.5 * with_units]
    )
