"""The nodes of `cluster/local.py` are out of the network's reach.

So is the local Ray of a run, which `test_two_runs` looks at.
"""

import json
import os
import shlex
import subprocess
import sys
import tempfile
from pathlib import Path

import psutil
import pytest
from listening import is_loopback, listening

from cluster import local

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]


def test_the_nodes_of_the_local_cluster_run_a_job_and_listen_on_loopback_alone():
    place = tempfile.mkdtemp(prefix="ray-", dir="/tmp")  # a short name, for sockets
    folder = f"--folder={place}"
    script = [sys.executable, ROOT / "cluster" / "local.py"]
    start = [*script, "start", "--workers=1", "--port=0", "--job-port=0", folder]
    started = subprocess.run(start, capture_output=True, text=True, check=False)
    try:
        assert started.returncode == 0, started.stderr
        lines = [line.removeprefix("export ") for line in started.stdout.splitlines()]
        joined = dict(shlex.split(line)[0].split("=", 1) for line in lines)
        code = "import ray; ray.init(); print(ray.cluster_resources()['CPU'])"
        ray_job = [Path(sys.executable).with_name("ray"), "job", "submit", "--"]
        ended = subprocess.run(
            [*ray_job, "python", "-c", code],
            env={**os.environ, **joined},
            capture_output=True,
            text=True,
            check=False,
        )
        assert "\n2.0\n" in ended.stdout, ended.stdout + ended.stderr
        state = json.loads(Path(place, "cluster.json").read_text())
        processes = [one for node in state["nodes"].values() for one in local._tree(*node)]
        ports = [port for process in processes for port in listening(process)]
        assert len(ports) > 5
        assert [port for port in ports if not is_loopback(port)] == []
    finally:
        subprocess.run([*script, "stop", folder], check=False)
    assert psutil.wait_procs(processes, timeout=60)[1] == []


def test_an_open_port_would_be_found():
    import socket

    me = psutil.Process()
    with socket.create_server(("0.0.0.0", 0)) as opened:  # noqa: S104 - that is the point
        port = opened.getsockname()[1]
        assert ("0.0.0.0", port) in listening(me)  # noqa: S104
        assert not is_loopback(("0.0.0.0", port))  # noqa: S104
    assert is_loopback(("::ffff:127.0.0.1", 1))
    assert is_loopback(("::1", 1))
    assert not is_loopback(("::", 1))
