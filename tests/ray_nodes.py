"""Nodes of a Ray cluster with a token, by Ray's own cluster utility.

It runs in a process of its own: in the tests' process it would share token, address and client with the
local Ray of other tests, and reset them at its end.
"""

import json
import multiprocessing
import os
import secrets
import sys
from contextlib import suppress
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import psutil

MARK = "RAY_NODES_OF_TESTS"
# The second lets Ray listen on 127.0.0.1.
SETTINGS = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}
START_SECONDS, END_SECONDS = 300, 10


class RayNodes:
    """A cluster with its token in `folder`; its nodes inherit the environment of this process.

    `nodes` are their names; the first is the head's, whose dashboard is at `job_address`.
    """

    def __init__(self, folder: Path) -> None:
        (folder / "token").write_text(secrets.token_hex(32))
        self.environment = {
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN_PATH": str(folder / "token"),
        }
        self.nodes: list[str] = []
        self._number = 0
        self._mark = secrets.token_hex(8)
        # A job's `python` is this one, even if no environment is active.
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        settings = {**self.environment, **SETTINGS, MARK: self._mark, "PATH": path}
        self._orders, orders = multiprocessing.Pipe()
        context = multiprocessing.get_context("spawn")
        self._server = context.Process(target=_serve, args=(orders, settings, folder))
        self._server.start()
        self.job_address = f"http://{self.add_node()}"
        self.environment["RAY_API_SERVER_ADDRESS"] = self.job_address

    def add_node(self) -> str:
        """Start one more node of one CPU, and wait until the head knows it."""
        name, self._number = f"node-{self._number}", self._number + 1
        address = self._order("add", name)
        self.nodes.append(name)
        return str(address)

    def kill_node(self, name: str) -> None:
        """SIGKILL all processes of a node, like a power failure."""
        self.nodes.remove(name)
        self._order("kill", name)

    def processes(self) -> list[psutil.Process]:
        """Whatever runs on the nodes, whoever its parent is by now."""
        found = []
        for process in psutil.process_iter():
            with suppress(psutil.Error):
                if process.environ().get(MARK) == self._mark:
                    found.append(process)
        return found

    def ask(self, path: str) -> Any:
        """The dashboard's answer (JSON) to a request with the token."""
        token = Path(self.environment["RAY_AUTH_TOKEN_PATH"]).read_text()
        header = {"Authorization": f"Bearer {token}"}
        request = Request(f"{self.job_address}{path}", headers=header)  # noqa: S310 (our own)
        with urlopen(request, timeout=60) as answer:  # noqa: S310 (our own)
            return json.load(answer)

    def close(self) -> None:
        """End all processes; workers outlive the utility's own end by seconds."""
        with suppress(RuntimeError):
            self._order("close", "")
        self._server.join(END_SECONDS)
        _, left = psutil.wait_procs(self.processes(), timeout=END_SECONDS)
        for process in left:
            process.kill()

    def _order(self, action: str, name: str) -> Any:
        self._orders.send((action, name))
        if not self._orders.poll(START_SECONDS):
            raise RuntimeError(f"no answer to {action} {name}")
        try:
            return self._orders.recv()
        except EOFError as error:
            raise RuntimeError(f"{action} {name} failed") from error


def _serve(orders: Connection, settings: dict[str, str], folder: Path) -> None:
    """Do what is ordered, in a process that Ray's utility has for itself."""
    os.environ.update(settings)  # Ray reads them when it is imported
    from ray.cluster_utils import Cluster

    cluster, nodes = Cluster(), dict[str, Any]()
    try:
        while (order := orders.recv())[0] != "close":
            action, name = order
            if action == "add":
                head = {} if nodes else {"include_dashboard": True, "dashboard_port": 0}
                # Two nodes of one folder would unpack a job's package over each other.
                place = {
                    "node_name": name,
                    "node_ip_address": "127.0.0.1",
                    "temp_dir": f"{folder}/{name}",
                }
                nodes[name] = cluster.add_node(**place, **head, dashboard_agent_listen_port=0)
                # As `ray start` does: a job would join whichever Ray of this machine is found first.
                Path(place["temp_dir"], "ray_current_cluster").write_text(cluster.address)
            else:
                [raylet] = nodes[name].all_processes["raylet"]
                workers = psutil.Process(raylet.process.pid).children(recursive=True)
                cluster.remove_node(nodes.pop(name), allow_graceful=False)
                for worker in workers:
                    with suppress(psutil.NoSuchProcess):
                        worker.kill()
            orders.send(cluster.webui_url)
    finally:
        cluster.shutdown()
    orders.send(None)
