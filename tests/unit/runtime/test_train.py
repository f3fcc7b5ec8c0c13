"""Messages about missing nodes, without any node."""

import threading

import ray

from pipeline.progress import Progress
from pipeline.runtime import train


def node(*, alive=True, **resources):
    return {"Alive": alive, "Resources": resources}


def test_room_counts_whole_workers_on_nodes_that_are_alive():
    nodes = [node(CPU=4.0, GPU=2.0), node(CPU=3.0), node(CPU=8.0, GPU=8.0, alive=False)]
    assert train.room(nodes, {"CPU": 1.0}) == 7
    assert train.room(nodes, {"CPU": 2.0}) == 3
    assert train.room(nodes, {"CPU": 1.0, "GPU": 1.0}) == 2
    assert train.room([], {"CPU": 1.0}) == 0


def test_a_lost_node_is_said_once_and_so_is_its_return(monkeypatch):
    whole, broken = [node(CPU=1.0), node(CPU=1.0)], [node(CPU=1.0), node(CPU=1.0, alive=False)]
    seen = [whole, broken, broken, whole]
    sent, over = [], threading.Event()

    def nodes():
        if len(seen) == 1:
            over.set()
        return seen.pop(0) if len(seen) > 1 else seen[0]

    monkeypatch.setattr(ray, "nodes", nodes)
    monkeypatch.setattr(train, "ROOM_CHECK_SECONDS", 0.001)
    with train._missing_room_messages({"CPU": 1.0}, 2, Progress(sent.append)):
        assert over.wait(60)
    assert len(sent) == 2
    assert "needs 2 training workers of 1 CPU" in sent[0]
    assert "room for 1" in sent[0]
    assert "--set cluster.training_workers=1" in sent[0]
    assert "again" in sent[1]
