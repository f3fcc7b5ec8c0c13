"""Checkpoints in storage: the newest whole one counts, whatever a killed writer left."""

from pathlib import Path

import pytest
import torch
from faulty_s3 import local_s3

from pipeline.storage.artifacts import Artifact
from pipeline.training import checkpoint_store
from pipeline.training.checkpoint_store import (
    TENSORS,
    VALUES,
    BestEpochs,
    CheckpointStore,
    load_state,
    save_state,
)


@pytest.fixture(params=["local", "s3"])
def output(request, tmp_path):
    if request.param == "local":
        yield Artifact(str(tmp_path))
    else:
        with local_s3():
            yield Artifact("s3://bucket/train_joint/0123")


def state(step: int) -> dict:
    return {"model": {"weight": torch.full((3,), float(step))}, "step": step}


def test_the_last_two_are_kept_and_the_newest_is_read(output):
    store = CheckpointStore(output)
    assert store.latest() is None
    for step in (4, 8, 12):
        store.save(step, state(step))
    assert store.steps() == [8, 12]
    found = store.latest()
    assert found["step"] == 12
    assert torch.equal(found["model"]["weight"], torch.full((3,), 12.0))


def test_a_half_written_one_is_passed_over_and_goes_with_the_next(output):
    store = CheckpointStore(output)
    store.save(4, state(4))
    store.save(8, state(8))
    output.delete(f"checkpoints/step-00000008/{VALUES}")
    assert store.latest()["step"] == 4

    store.save(9, state(9))
    assert store.steps() == [4, 9]
    assert not any("step-00000008" in name for name in output.names())


class KilledError(BaseException):
    """Stands for SIGKILL: no cleaning up follows, see `killed_at`."""


def killed_at(monkeypatch, owner, name, at):
    """The call number `at` of `owner.name` is the last thing that happens."""
    calls = []
    original = getattr(owner, name)

    def call(*args, **kwargs):
        calls.append(args)
        if len(calls) == at:
            raise KilledError
        return original(*args, **kwargs)

    monkeypatch.setattr(owner, name, call)
    monkeypatch.setattr("shutil.rmtree", lambda *_, **__: None)


# Where a local write can be cut: in each of its files, before it takes its place.
LOCAL_CUTS = [(checkpoint_store, "save_file", 1), (Path, "write_text", 1), (Path, "rename", 1)]


@pytest.mark.parametrize("cut", range(3))
def test_a_kill_at_any_moment_of_saving_leaves_the_last_good_one(output, monkeypatch, cut):
    cuts = LOCAL_CUTS
    if output.uri.startswith("s3"):
        # Before either object goes up, and before the second one does.
        cuts = [*LOCAL_CUTS[1:2], *((output.filesystem, "put_file", at) for at in (1, 2))]
    store = CheckpointStore(output)
    for step in (4, 8):
        store.save(step, state(step))
    with monkeypatch.context() as patch:
        killed_at(patch, *cuts[cut])
        with pytest.raises(KilledError):
            store.save(12, state(12))

    successor = CheckpointStore(output)
    assert successor.steps() == [4, 8]
    assert torch.equal(successor.latest()["model"]["weight"], torch.full((3,), 8.0))
    successor.save(12, state(12))
    assert successor.steps() == [8, 12]
    assert successor.latest()["step"] == 12
    kept = {f"checkpoints/step-{step:08d}/{name}" for step in (8, 12) for name in (TENSORS, VALUES)}
    assert set(output.names()) == kept


def test_epochs_are_kept_by_number(output):
    store = CheckpointStore(output)
    for epoch in (0, 1, 2):
        store.save_epoch(epoch, {"weight": torch.full((2,), float(epoch))})
    store.forget_epochs({1})
    assert torch.equal(store.load_epoch(1)["weight"], torch.ones(2))
    assert {name.split("/")[1] for name in output.names("checkpoints")} == {"epoch-0001"}


def test_nested_state_comes_back_as_it_was(tmp_path):
    model = torch.nn.Linear(3, 2)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1)
    model(torch.ones(1, 3)).sum().backward()
    optimizer.step()
    state = {
        "model": model.state_dict(),
        "optimizer": optimizer.state_dict(),
        "progress": {"step": 3, "seconds": 0.1, "name": "a", "none": None, "yes": True},
        "rows": [{"x": 1e-17}, {"x": float("inf")}],
    }
    save_state(tmp_path, state)
    loaded = load_state(tmp_path)

    assert loaded["progress"] == state["progress"]
    assert loaded["rows"] == state["rows"]
    assert list(loaded["optimizer"]["state"]) == [0, 1]
    torch.testing.assert_close(loaded["model"], dict(state["model"]), rtol=0, atol=0)
    again = torch.optim.AdamW(model.parameters(), lr=0.5)
    again.load_state_dict(loaded["optimizer"])
    assert again.param_groups[0]["lr"] == 0.1


def test_tied_tensors_are_kept_apart_on_disk(tmp_path):
    weight = torch.arange(4.0)
    save_state(tmp_path, {"a": weight, "b": weight})
    assert torch.equal(load_state(tmp_path)["b"], weight)


def test_what_is_neither_tensor_nor_json_is_refused_by_name(tmp_path):
    with pytest.raises(TypeError, match="a/f is a function"):
        save_state(tmp_path, {"a": {"f": lambda: None}})


def test_the_best_are_kept_and_ties_go_to_the_earlier_epoch():
    best = BestEpochs(2)
    added = [best.add((loss,), epoch, 0) for epoch, loss in enumerate([3.0, 1.0, 2.0, 2.0, 0.5])]
    assert added == [True, True, True, False, True]
    assert best.entries == [((0.5,), 4, 0), ((1.0,), 1, 0)]
    assert best.epochs == {4, 1}


def test_where_the_first_score_is_equal_the_second_decides():
    best = BestEpochs(2)
    added = [best.add(rank, epoch, 0) for epoch, rank in enumerate([(0.2, 9.0), (0.2, 3.0)])]
    assert added == [True, True]
    assert [epoch for _, epoch, _ in best.entries] == [1, 0]


def test_the_average_is_over_the_phase_of_the_best_epoch_in_float64(tmp_path):
    store, best = CheckpointStore(Artifact(str(tmp_path))), BestEpochs(3)
    weights = [torch.tensor([1.0, 1e8]), torch.tensor([3.0, 1e8 + 8]), torch.tensor([5.0, 0.0])]
    for epoch, weight in enumerate(weights):
        store.save_epoch(epoch, {"weight": weight, "count": torch.tensor(epoch)})
    best.add((0.3,), 2, 0)
    best.add((0.2,), 0, 1)
    best.add((0.1,), 1, 1)
    average = best.average(store)
    assert average["weight"].tolist() == [2.0, 1e8]
    assert average["weight"].dtype == torch.float32
    assert int(average["count"]) == 1
