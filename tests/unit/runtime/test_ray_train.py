"""What counts as a lost worker, and messages about missing nodes, without any node."""

import threading
from contextlib import nullcontext

import pytest
import ray
import torch

from pipeline.progress import Progress
from pipeline.runtime import ray_train
from pipeline.storage.failures import StorageError


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (ray.exceptions.RayActorError(), True),
        (
            RuntimeError("[…/third_party/gloo/gloo/transport/tcp/pair.cc:547] Connection closed"),
            True,
        ),
        (torch.distributed.DistBackendError("NCCL error"), True),
        (RuntimeError("DataLoader worker (pid 7) is killed by signal: Killed."), True),
        (RuntimeError("mat1 and mat2 shapes cannot be multiplied (3x4 and 5x6)"), False),
        (torch.OutOfMemoryError("CUDA out of memory"), False),
        (StorageError("there are no credentials for s3://bucket/x"), False),
        (ValueError("/gloo/"), False),
    ],
)
def test_a_loss_is_told_from_an_error_of_the_function(error, expected):
    assert ray_train.is_loss(error) == expected
    told = ray_train._OwnErrors()
    with nullcontext() if expected else pytest.raises(type(error)):
        told.after_exception(None, {1: error})


def node(*, alive=True, **resources):
    return {"Alive": alive, "Resources": resources}


def test_room_counts_whole_workers_on_nodes_that_are_alive():
    nodes = [node(CPU=4.0, GPU=2.0), node(CPU=3.0), node(CPU=8.0, GPU=8.0, alive=False)]
    assert ray_train.room(nodes, {"CPU": 1.0}) == 7
    assert ray_train.room(nodes, {"CPU": 2.0}) == 3
    assert ray_train.room(nodes, {"CPU": 1.0, "GPU": 1.0}) == 2
    assert ray_train.room([], {"CPU": 1.0}) == 0


def test_a_lost_node_is_said_once_and_so_is_its_return(monkeypatch):
    whole, broken = [node(CPU=1.0), node(CPU=1.0)], [node(CPU=1.0), node(CPU=1.0, alive=False)]
    seen = [whole, broken, broken, whole]
    sent, over = [], threading.Event()

    def nodes():
        if len(seen) == 1:
            over.set()
        return seen.pop(0) if len(seen) > 1 else seen[0]

    monkeypatch.setattr(ray, "nodes", nodes)
    monkeypatch.setattr(ray_train, "ROOM_CHECK_SECONDS", 0.001)
    with ray_train._missing_room_messages({"CPU": 1.0}, 2, Progress(sent.append)):
        assert over.wait(60)
    assert len(sent) == 2
    assert "needs 2 training workers of 1 CPU" in sent[0]
    assert "room for 1" in sent[0]
    assert "--set cluster.training_workers=1" in sent[0]
    assert "again" in sent[1]
