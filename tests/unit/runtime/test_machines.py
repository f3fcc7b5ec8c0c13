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


@pytest.fixture
def requests(monkeypatch):
    """What the autoscaler is asked for."""
    asked = []
    monkeypatch.setattr(machines, "request_resources", lambda *, bundles: asked.append(bundles))
    return asked


def test_the_autoscaler_is_asked_for_what_has_no_room(requests):
    there, worker = [Resources(4, 0)], Resources(1, 0.5)
    seen = Machines()
    seen.ask([Resources(4, 0)], there)
    assert requests == []
    for _ in range(2):  # once, although the scheduler looks every second
        seen.ask([Resources(0, 0), Resources(2, 0), worker, worker], there)
    gpu = {"CPU": 1, "GPU": 0.5}
    assert requests == [[{"CPU": 2, "GPU": 0}, gpu, gpu]]
    for _ in range(2):
        seen.ask([Resources(2, 0), worker, worker], [*there, Resources(8, 1)])
    assert requests[1:] == [[]]


def test_a_process_that_fits_on_no_machine_is_asked_for(requests):
    Machines().ask([Resources(4)], [Resources(2), Resources(2)])
    assert requests == [[{"CPU": 4, "GPU": 0}]]


def test_a_request_is_repeated_since_ray_data_has_its_own(requests, monkeypatch):
    monkeypatch.setattr(machines, "ASK_AGAIN_SECONDS", 0.0)
    seen = Machines()
    for _ in range(2):
        seen.ask([Resources(1)], [])
    assert requests == [[{"CPU": 1, "GPU": 0}]] * 2
