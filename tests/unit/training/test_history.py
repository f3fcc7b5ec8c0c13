"""The history is whole after a resume, for the checkpoint and for who is told."""

import math

import pytest

from pipeline.progress import Progress, Report
from pipeline.training.history import History


def told():
    rows = []
    return rows, History(2, log=lambda row, step: rows.append((step, row)))


def test_rows_of_a_checkpoint_are_passed_on_again_in_order_before_new_ones():
    before, first = told()
    for step in (10, 20):
        first.update({"loss": 1.0 / step}, 1.0, {})
        first.steps(step, 0, {"step_seconds": 0.5})
    first.epoch(20, 0, {"loss": math.nan, "ctc": 2.0}, {3: 1.0}, None)
    first.update({"loss": 7.0}, 1.0, {})
    state = first.state()

    after, second = told()
    second.restore(state)
    assert after == before
    second.update({"loss": 9.0}, 2.0, {})
    second.steps(30, 1, {})
    assert after[-1] == (30, {"train.loss": 8.0, "gradient_norm": 1.5, "epoch": 1.0})
    assert [row["step"] for row in second.rows] == [10, 20, 20, 30]


def test_an_epochs_means_are_of_all_its_steps_whatever_is_logged_and_interrupted():
    first = History(2)
    for share in (0.1, 0.2, 0.6):
        first.update({"noisy_share": share}, 1.0, {"tau": 2.0})
    first.steps(3, 0, {})
    first.update({"noisy_share": 0.7}, 1.0, {"tau": 1.0})
    first.epoch(4, 0, {}, {}, None)
    assert first.of_epoch == {"train.noisy_share": pytest.approx(0.4)}
    first.update({"noisy_share": 0.3}, 1.0, {})
    second = History(2)
    second.restore(first.state())
    assert second.of_epoch == first.of_epoch
    second.update({"noisy_share": 0.1}, 1.0, {})
    second.epoch(6, 1, {}, {}, None)
    assert second.of_epoch == {"train.noisy_share": pytest.approx(0.2)}


def test_progress_counts_epochs_with_the_latest_losses_and_tells_where_it_resumes():
    sent = []
    history = History(4, progress=Progress(sent.append))
    history.update({"loss": 2.0}, 1.0, {})
    history.steps(10, 0, {})
    history.reached(0.5)
    history.epoch(20, 3, {"loss": 1.5, "wer": 0.125}, {}, None)
    resumed = History(4, progress=Progress(sent.append))
    resumed.restore(history.state())
    resumed.resumed(3)
    resumed.reached(3.5)
    validated = "validation loss 1.500, validation WER 0.125"
    assert sent == [
        Report(0.5, 4, "epochs", "loss 2.000"),
        Report(4, 4, "epochs", f"loss 2.000, {validated}"),
        "goes on from epoch 4",
        Report(3.5, 4, "epochs", f"loss 2.000, {validated}"),
    ]


def test_an_early_stop_is_told_and_the_epochs_left_count_as_done():
    sent = []
    History(8, progress=Progress(sent.append)).stopped(3, 5)
    assert sent == ["stops after epoch 3 of 5: it gets no better", Report(5, 8, "epochs", "")]


def test_what_is_not_finite_is_kept_in_the_rows_and_told_to_nobody():
    rows, history = told()
    history.epoch(5, 0, {"loss": math.inf, "ctc": 2.0}, {}, None)
    assert rows == [(5, {"valid.ctc": 2.0})]
    assert history.rows[0]["valid.loss"] == math.inf
