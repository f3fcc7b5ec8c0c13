"""The machines of the cluster: what they have, which of them were lost, and which are missing."""

import time
from collections.abc import Sequence

import ray
from ray.autoscaler.sdk import request_resources

from pipeline.graph.stage import Resources

# The autoscaler knows the last request alone, and Ray Data has its own, every 20 s.
ASK_AGAIN_SECONDS = 10.0


class Machines:
    """What Ray knows of its nodes; each lost one is told once."""

    def __init__(self) -> None:
        self._alive: dict[str, str] = {}
        self._lost: dict[str, float] = {}
        self._asked: Sequence[Resources] = ()
        self._asked_at = 0.0

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

    def ask(self, wanted: Sequence[Resources], there: Sequence[Resources]) -> None:
        """Ask the autoscaler for machines that have room for all of `wanted`, if these have not.

        Args:
            wanted: what must fit at the same time, each on one machine.
            there: what each machine has.
        """
        is_room = sum(wanted, Resources()).fits(sum(there, Resources())) and all(
            any(each.fits(machine) for machine in there) for each in wanted
        )
        missing = () if is_room else tuple(one for one in wanted if one != Resources())
        waited = time.monotonic() - self._asked_at
        if missing != self._asked or (missing and waited >= ASK_AGAIN_SECONDS):
            bundles = [{"CPU": one.cpus, "GPU": one.gpus} for one in missing]
            request_resources(bundles=bundles)
            self._asked, self._asked_at = missing, time.monotonic()
