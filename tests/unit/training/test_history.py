"""The history is whole after a resume, for the checkpoint and for who is told."""

import math

from pipeline.training.history import History


def told():
    rows = []
    return rows, History(2, log=lambda row, step: rows.append((step, row)))


def test_rows_of_a_checkpoint_are_passed_on_again_in_order_before_new_ones():
    before, first = told()
    for step in (10, 20):
        first.count("train.loss", 1.0 / step)
        first.steps(step, 0, {"step_seconds": 0.5})
    first.epoch(20, 0, {"loss": math.nan, "ctc": 2.0}, {3: 1.0}, None)
    first.count("train.loss", 7.0)
    state = first.state()

    after, second = told()
    second.restore(state)
    assert after == before
    second.count("train.loss", 9.0)
    second.steps(30, 1, {})
    assert after[-1] == (30, {"train.loss": 8.0, "epoch": 1.0})
    assert [row["step"] for row in second.rows] == [10, 20, 20, 30]


def test_what_is_not_finite_is_kept_in_the_rows_and_told_to_nobody():
    rows, history = told()
    history.epoch(5, 0, {"loss": math.inf, "ctc": 2.0}, {}, None)
    assert rows == [(5, {"valid.ctc": 2.0})]
    assert history.rows[0]["valid.loss"] == math.inf
