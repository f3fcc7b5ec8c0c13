"""Word of missing nodes, without any: who waits for what must not be a riddle."""

import threading

import ray

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
    said, over = [], threading.Event()

    def nodes():
        if len(seen) == 1:
            over.set()
        return seen.pop(0) if len(seen) > 1 else seen[0]

    monkeypatch.setattr(ray, "nodes", nodes)
    monkeypatch.setattr(train, "say", said.append)
    monkeypatch.setattr(train, "ROOM_CHECK_SECONDS", 0.001)
    with train._word_of_missing_room({"CPU": 1.0}, 2, "train_joint-x"):
        assert over.wait(60)
    assert len(said) == 2
    assert "2 training workers of 1 CPU are wanted" in said[0]
    assert "room for 1" in said[0]
    assert "--set cluster.training_workers=1" in said[0]
    assert "again" in said[1]
