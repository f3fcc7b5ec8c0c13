"""Which machines there are, and which were lost, without any cluster."""

import pytest

from pipeline.graph.stage import Resources
from pipeline.runtime import machines
from pipeline.runtime.machines import Machines


def node(name, *, alive=True, **resources):
    return {"Alive": alive, "NodeID": f"id-{name}", "NodeName": name, "Resources": resources}


@pytest.fixture
def nodes(monkeypatch):
    there = [node("head", CPU=2.0), node("node-1", CPU=4.0, GPU=1.0)]
    monkeypatch.setattr(machines.ray, "nodes", lambda: there)
    return there


def test_each_machine_has_what_it_has(nodes):
    nodes.append(node("node-2", CPU=8.0, alive=False))
    assert Machines().look() == [Resources(2, 0), Resources(4, 1)]


def test_a_lost_machine_is_told_once(nodes):
    seen = Machines()
    seen.look()
    assert seen.take_lost() == []
    nodes[1] = node("node-1", alive=False)
    seen.look()
    assert seen.take_lost(seconds=60) == []  # its stages may still say what it means to them
    assert seen.take_lost() == ["node-1"]
    seen.look()
    assert seen.take_lost() == []


def test_a_machine_that_comes_again_is_a_new_one(nodes):
    seen = Machines()
    seen.look()
    nodes[1] = node("node-1", alive=False)
    seen.look()
    nodes.append({**node("node-1", CPU=4.0), "NodeID": "another"})
    seen.look()
    assert seen.take_lost() == ["node-1"]
