"""The machines of the cluster: what they have, and which of them were lost."""

import time

import ray

from pipeline.graph.stage import Resources


class Machines:
    """What Ray knows of its nodes; each lost one is told once."""

    def __init__(self) -> None:
        self._alive: dict[str, str] = {}
        self._lost: dict[str, float] = {}

    def look(self) -> list[Resources]:
        """What each machine has, as of now."""
        nodes = [node for node in ray.nodes() if node["Alive"]]
        alive = {node["NodeID"]: node["NodeName"] for node in nodes}
        for node_id in self._alive.keys() - alive.keys():
            self._lost[self._alive[node_id]] = time.monotonic()
        self._alive = alive
        resources = [node["Resources"] for node in nodes]
        return [Resources(each.get("CPU", 0.0), each.get("GPU", 0.0)) for each in resources]

    def take_lost(self, seconds: float = 0.0) -> list[str]:
        """The names of machines lost at least `seconds` ago, which nobody has asked for yet."""
        now = time.monotonic()
        names = [name for name, lost_at in self._lost.items() if now - lost_at >= seconds]
        for name in names:
            del self._lost[name]
        return names
