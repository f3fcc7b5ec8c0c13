"""The loop that trains a language model: it learns, resumes to the bit, and keeps the best epoch."""

import numpy as np
import pytest
import torch

from pipeline.config import CausalTransformer, LmTraining
from pipeline.lm.causal_lm import CausalLm
from pipeline.storage.artifacts import Artifact
from pipeline.training.causal_lm import CausalLmTraining
from pipeline.training.checkpoint_store import CheckpointStore
from pipeline.training.history import History
from pipeline.training.worker import Worker

SETTINGS = LmTraining(
    epochs=6,
    batch_symbols=40,
    learning_rate=1e-2,
    warmup_steps=3,
    checkpoint_steps=4,
    log_steps=2,
    seed=3,
)
TRANSFORMER = CausalTransformer(dim=16, layers=1, heads=2, feedforward_dim=32, dropout=0.1)
SYMBOLS = 5


def sequences(seed, number):
    """Each symbol is followed by the next one, mostly."""
    chance = np.random.default_rng(seed)
    return [
        (chance.integers(SYMBOLS) + np.cumsum(chance.random(length) < 0.9)) % SYMBOLS
        for length in chance.integers(3, 12, number)
    ]


def make_training(folder, settings=SETTINGS, worker=Worker()):  # noqa: B008
    torch.manual_seed(settings.seed)
    model = CausalLm.build(TRANSFORMER, SYMBOLS + 1, SYMBOLS)
    store, history = CheckpointStore(Artifact(str(folder))), History(settings.epochs)
    parts = (model, sequences(0, 30), sequences(1, 8), worker)
    return CausalLmTraining(settings, *parts, store=store, history=history)


class StoppedError(RuntimeError):
    """Stands for a kill."""


def stop(training, at):
    step = training._step

    def stopped(batch):
        if training.position.step == at:
            raise StoppedError
        step(batch)

    training._step = stopped
    with pytest.raises(StoppedError):
        training.run()


def weights(training):
    return torch.cat([p.detach().flatten() for p in training.model.parameters()])


def rows(training):
    return [{k: v for k, v in row.items() if k != "seconds"} for row in training.history.rows]


def test_it_learns_what_follows_what(tmp_path):
    training = make_training(tmp_path)
    before = training._validate()
    scores = training.run()
    assert before == pytest.approx(np.log(SYMBOLS + 1), abs=0.2)
    assert scores["valid.loss"] < 1.1
    assert scores["valid.loss"] == pytest.approx(training._validate(), rel=1e-6)


@pytest.mark.parametrize("at", [1, 7, 15])
def test_a_training_that_was_killed_twice_repeats_the_uninterrupted_one(tmp_path, at):
    whole = make_training(tmp_path / "whole")
    expected = whole.run()
    stop(make_training(tmp_path / "parts"), at)
    stop(make_training(tmp_path / "parts"), at + 6)
    resumed = make_training(tmp_path / "parts")
    found = resumed.run()
    assert torch.equal(weights(resumed), weights(whole))
    assert rows(resumed) == rows(whole)
    assert {**found, "training_seconds": 0} == {**expected, "training_seconds": 0}


def test_the_likeliest_epoch_is_kept(tmp_path):
    losses = iter([3.0, 1.0, 2.0, 4.0, 5.0, 6.0])
    training = make_training(tmp_path)
    kept = {}

    def validate():
        loss = next(losses)
        kept[loss] = weights(training).clone()
        return loss

    training._validate = validate
    scores = training.run()
    assert (scores["best_epoch"], scores["valid.loss"]) == (1, 1.0)
    assert torch.equal(weights(training), kept[1.0])
    assert not torch.equal(kept[1.0], kept[6.0])


def test_shares_of_several_workers_add_up_to_the_gradient_of_one(tmp_path, monkeypatch):
    """As workers' gradients are averaged, with another rank's share drawn from the same batch."""

    def gradient(rank, world_size):
        settings = SETTINGS.model_copy(update={"clip_norm": 1e9})
        training = make_training(tmp_path / f"{rank}{world_size}", settings)
        training.model.eval()
        training._descend = lambda: 0.0
        training.worker = Worker(rank, world_size)
        training._step(training._batches(0)[0])
        return torch.cat([p.grad.flatten() for p in training.model.parameters()])

    monkeypatch.setattr(Worker, "sum", lambda _worker, values: values)
    averaged = (gradient(0, 2) + gradient(1, 2)) / 2
    torch.testing.assert_close(averaged, gradient(0, 1))


def test_a_gradient_that_is_not_finite_ends_the_training(tmp_path):
    training = make_training(tmp_path)
    next(training.model.parameters()).data.fill_(torch.nan)
    with pytest.raises(FloatingPointError, match="lower learning_rate or lengthen warmup_steps"):
        training.run()
