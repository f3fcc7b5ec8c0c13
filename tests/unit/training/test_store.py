"""Checkpoints in storage: the newest whole one counts, whatever a killed writer left."""

import pytest
import torch
from faulty_s3 import local_s3

from pipeline.artifacts import Artifact
from pipeline.training.checkpoint import VALUES
from pipeline.training.store import CheckpointStore


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


def test_epochs_are_kept_by_number(output):
    store = CheckpointStore(output)
    for epoch in (0, 1, 2):
        store.save_epoch(epoch, {"weight": torch.full((2,), float(epoch))})
    store.forget_epochs({1})
    assert torch.equal(store.load_epoch(1)["weight"], torch.ones(2))
    assert {name.split("/")[1] for name in output.names("checkpoints")} == {"epoch-0001"}
