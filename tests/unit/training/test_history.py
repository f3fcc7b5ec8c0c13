"""The history is whole after a resume, for the checkpoint and for who is told."""

import math

import pytest
import torch

from pipeline.progress import Progress, Report
from pipeline.training.checkpoint_store import load_state, save_state
from pipeline.training.history import History


class Log:
    """Keeps what it is told."""

    def __init__(self):
        self.rows, self.flushed = [], 0

    def metrics(self, values, step):
        self.rows.append((step, dict(values)))

    def flush(self):
        self.flushed = len(self.rows)


def told():
    log = Log()
    return log, History(2, log=log)


def test_rows_of_a_checkpoint_are_kept_and_not_logged_again():
    log, first = told()
    for step in (10, 20):
        first.update({"loss": 1.0 / step}, 1.0, {})
        first.steps(step, 0, {"step_seconds": 0.5})
    first.epoch(20, 0, {"loss": math.nan, "ctc": 2.0}, {3: 1.0}, None)
    first.update({"loss": 7.0}, 1.0, {})
    state = first.state()
    assert [step for step, _ in log.rows] == [10, 20, 20]

    log, second = told()
    second.restore(state)
    assert log.rows == []
    second.update({"loss": 9.0}, 2.0, {})
    second.steps(30, 1, {})
    assert log.rows == [(30, {"train.loss": 8.0, "gradient_norm": 1.5, "epoch": 1.0})]
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


def test_a_history_that_goes_on_knows_the_units_of_the_last_validation(tmp_path):
    first, second = History(1), History(1)
    first.epoch(4, 0, {"loss": 1.0}, {}, torch.tensor([3, 0, 1]))
    save_state(tmp_path, first.state())
    second.restore(load_state(tmp_path))
    assert second.counts_K is not None
    assert second.counts_K.tolist() == [3, 0, 1]


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


def test_before_a_checkpoint_nothing_waits_in_the_log():
    log, history = told()
    history.epoch(5, 0, {"loss": 1.0}, {}, None)
    assert log.flushed == 0
    history.flush()
    assert log.flushed == 1
