"""Means over frames: by hand, over micro-batches, over workers, and of quantizers that say less."""

import pytest
import torch

from pipeline.training.choices import ChoiceMeans
from pipeline.training.worker import Worker


def statistics(num_frames, entropy, perplexity, noisy_share):
    return {
        "num_frames": torch.tensor(num_frames),
        "entropy": torch.tensor(entropy),
        "perplexity": torch.tensor(perplexity),
        "noisy_share": torch.tensor(noisy_share),
        "counts_K": torch.tensor([num_frames, 0]),
        "ctc": torch.tensor(3.0),
    }


class Company(Worker):
    """A worker beside another whose sums are given."""

    others: torch.Tensor

    def sum(self, values):
        return values + self.others


def test_frames_weigh_alike_whatever_micro_batch_they_are_in():
    means = ChoiceMeans()
    means.add(statistics(30, 0.5, 2.0, 0.1), counted=True)
    means.add(statistics(10, 0.9, 4.0, 0.5), counted=True)
    means.add(statistics(60, 9.0, 9.0, 1.0), counted=False)
    assert means.report(Worker()) == pytest.approx(
        {"entropy": 0.6, "perplexity": 2.5, "noisy_share": 0.2}, rel=1e-6
    )


def test_frames_weigh_alike_whatever_worker_has_them():
    means = ChoiceMeans()
    means.add(statistics(30, 0.5, 2.0, 0.1), counted=True)
    worker = Company()
    object.__setattr__(worker, "others", torch.tensor([9.0, 40.0, 5.0, 10.0]))
    assert means.report(worker) == pytest.approx(
        {"entropy": 0.6, "perplexity": 2.5, "noisy_share": 0.2}, rel=1e-6
    )


def test_a_worker_without_frames_of_its_own_takes_part_in_the_sum():
    means = ChoiceMeans()
    means.add(statistics(5, 0.5, 2.0, 0.1), counted=False)
    worker = Company()
    object.__setattr__(worker, "others", torch.tensor([9.0, 40.0, 5.0, 10.0]))
    assert means.report(worker) == pytest.approx(
        {"entropy": 0.9, "perplexity": 4.0, "noisy_share": 0.5}
    )


def test_a_quantizer_may_say_less_or_nothing():
    silent, brief = ChoiceMeans(), ChoiceMeans()
    silent.add({"ctc": torch.tensor(3.0), "counts_K": torch.tensor([1])}, counted=True)
    assert silent.report(Worker()) == {}
    brief.add({"num_frames": torch.tensor(4), "noisy_share": torch.tensor(0.5)}, counted=True)
    assert brief.report(Worker()) == {"noisy_share": 0.5}


def test_no_frame_has_no_means():
    means = ChoiceMeans()
    means.add(statistics(0, 0.0, 0.0, 0.0), counted=True)
    assert means.report(Worker()) == {}
