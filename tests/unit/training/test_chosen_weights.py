"""Which weights a training ends with, and when a phase ends: averages, best epochs, early stop."""

import pytest
import torch
from joint_training import assert_same, interrupt, make_training, rows_without_costs

from pipeline.storage.artifacts import Artifact
from pipeline.training.history import History
from pipeline.training.objective import Objective
from pipeline.training.phase_run import PhaseRun
from pipeline.training.worker import Worker


def test_epochs_are_chosen_by_the_asr_loss_though_the_kmeans_term_rises(
    inputs, tmp_path, monkeypatch
):
    # CTC, attention and k-means of three epochs, then of the average, which is no better. The
    # objective is lowest in the first epoch, the ASR loss in the second.
    measured = iter([(2.0, 1.0, 0.1), (1.0, 0.5, 9.0), (1.5, 0.7, 9.0), (3.0, 3.0, 0.0)])
    objective = Objective(ctc_weight=0.3, kmeans_weight=0.25)

    def validate(_phase):
        parts = torch.tensor(next(measured), dtype=torch.float64)
        return {**objective.report(parts, Worker()), "wer": 0.25}, None

    monkeypatch.setattr(PhaseRun, "validate", validate)
    training = make_training(
        inputs,
        Artifact(str(tmp_path)),
        quantizer={"kind": "dkm"},
        training={"average_best": 2, "phases": [{"epochs": 3}]},
    )
    scores = training.run()
    assert (scores["best_epoch"], scores["valid.asr_loss"]) == (1, pytest.approx(0.65))
    assert [epoch for _, epoch, _ in training.best.entries] == [1, 2]
    assert_same(dict(training.model.state_dict()), training.store.load_epoch(1))
    rows = [row for row in training.history.rows if "valid.loss" in row]
    assert [row["valid.asr_loss"] for row in rows] == pytest.approx([1.3, 0.65, 0.94])
    assert [row["valid.loss"] for row in rows] == pytest.approx([1.325, 2.9, 3.19])


@pytest.mark.parametrize(
    ("select", "kept"), [("loss", [0, 2]), ("wer", [3, 1])], ids=["loss", "wer"]
)
def test_select_says_by_what_epochs_are_chosen_and_the_other_decides_between_equals(
    inputs, tmp_path, monkeypatch, select, kept
):
    # ASR loss and WER of four epochs, then of the average, which is worse.
    measured = [(0.5, 0.4), (0.9, 0.2), (0.6, 0.3), (0.8, 0.2), (1.0, 0.5)]
    remaining = iter(measured)

    def validate(_phase):
        loss, wer = next(remaining)
        return {"loss": loss, "asr_loss": loss, "wer": wer}, None

    monkeypatch.setattr(PhaseRun, "validate", validate)
    training = make_training(
        inputs,
        Artifact(str(tmp_path)),
        quantizer={"kind": "dkm"},
        training={"select": select, "average_best": 2, "phases": [{"epochs": 4}]},
    )
    scores = training.run()
    assert scores["best_epoch"] == kept[0]
    assert (scores["valid.asr_loss"], scores["valid.wer"]) == measured[kept[0]]
    assert [epoch for _, epoch, _ in training.best.entries] == kept
    assert_same(dict(training.model.state_dict()), training.store.load_epoch(kept[0]))


def test_the_n_best_epochs_by_wer_are_averaged(inputs, tmp_path, monkeypatch):
    # ASR loss and WER of four epochs, then of the average, which is better than any.
    measured = iter([(0.5, 0.4), (0.9, 0.2), (0.6, 0.3), (0.8, 0.5), (0.7, 0.1)])

    def validate(_phase):
        loss, wer = next(measured)
        return {"loss": loss, "asr_loss": loss, "wer": wer}, None

    monkeypatch.setattr(PhaseRun, "validate", validate)
    training = make_training(
        inputs,
        Artifact(str(tmp_path)),
        quantizer={"kind": "dkm"},
        training={"select": "wer", "average_best": 3, "phases": [{"epochs": 4}]},
    )
    assert training.run()["valid.wer"] == 0.1
    kept = [training.store.load_epoch(epoch) for epoch in (0, 1, 2)]
    for name, weights in training.model.state_dict().items():
        mean = sum(state[name].double() for state in kept) / 3
        torch.testing.assert_close(weights.double(), mean, atol=1e-7, rtol=1e-6)
    assert not torch.equal(kept[0]["asr.ctc_head.weight"], kept[1]["asr.ctc_head.weight"])


def test_a_moving_average_is_validated_and_kept_while_the_weights_train_on(
    inputs, tmp_path, monkeypatch
):
    settings = {"average_best": 1, "phases": [{"epochs": 2}], "batch_seconds": 2.5}
    plain, averaged = (
        make_training(
            inputs,
            Artifact(str(tmp_path / str(decay))),
            quantizer={"kind": "dkm"},
            training={**settings, "ema_decay": decay},
        )
        for decay in (None, 0.5)
    )
    plain.run()
    learning = {n: p for n, p in averaged.model.named_parameters() if p.requires_grad}
    wanted = {name: weight.detach().double() for name, weight in learning.items()}
    step, validate, seen = averaged._step, PhaseRun.validate, []

    def watched_step(batch, micros):
        number = averaged.position.step
        step(batch, micros)
        decay = min(0.5, (1 + number) / (10 + number))
        for name, weight in learning.items():
            wanted[name] = decay * wanted[name] + (1 - decay) * weight.detach().double()

    def watched_validate(phase):
        seen.append({name: weight.detach().clone() for name, weight in learning.items()})
        return validate(phase)

    averaged._step = watched_step
    monkeypatch.setattr(PhaseRun, "validate", watched_validate)
    averaged.run()
    last, without = averaged.store.latest(), plain.store.latest()
    assert_same(last["model"], without["model"])
    assert_same(last["optimizer"], without["optimizer"])
    assert without["moving_average"] == {}
    for name, weight in wanted.items():
        for found in (last["moving_average"][name], seen[1][name]):
            torch.testing.assert_close(found.double(), weight, atol=1e-5, rtol=1e-5)
    [(_, best, _)] = averaged.best.entries
    kept = averaged.store.load_epoch(best)
    assert all(torch.equal(kept[name], weight) for name, weight in seen[best].items())
    assert not torch.equal(kept["asr.ctc_head.weight"], last["model"]["asr.ctc_head.weight"])


# What each epoch validates as; the first phase stops after its third, the second ends by itself.
STOPPING = {0: 0.5, 1: 0.6, 2: 0.7, 5: 0.9, 6: 0.95, 7: 0.8}


def stopping(inputs, output, monkeypatch):
    training = make_training(
        inputs,
        output,
        history=History(8),
        quantizer={"kind": "none"},
        training={
            "patience": 2,
            "phases": [{"epochs": 5}, {"epochs": 3}],
            "batch_seconds": 60.0,
            "checkpoint_steps": 1,
        },
    )

    def validate(_phase):
        loss = STOPPING.get(training.position.epoch, 1.0)
        return {"loss": loss, "asr_loss": loss, "wer": loss}, None

    monkeypatch.setattr(PhaseRun, "validate", validate)
    return training


def test_a_phase_stops_early_and_the_next_begins_also_after_a_kill(inputs, tmp_path, monkeypatch):
    training = stopping(inputs, Artifact(str(tmp_path / "whole")), monkeypatch)
    training.run()
    rows, sizes = training.history.rows, training._timetable.sizes
    assert [row["valid.loss"] for row in rows if "valid.loss" in row] == [*STOPPING.values()]
    assert sorted({row["epoch"] for row in rows if "epoch" in row}) == [*STOPPING]
    assert training.position.epoch == 8
    assert training.position.step == sum(sizes[epoch] for epoch in STOPPING)
    first_phase = sum(sizes[:3])
    for stop_at in (first_phase - 1, first_phase):
        output = Artifact(str(tmp_path / str(stop_at)))
        interrupt(stopping(inputs, output, monkeypatch), stop_at)
        resumed = stopping(inputs, output, monkeypatch)
        resumed.run()
        assert rows_without_costs(resumed) == rows_without_costs(training)
        assert_same(resumed.store.latest()["model"], training.store.latest()["model"])
