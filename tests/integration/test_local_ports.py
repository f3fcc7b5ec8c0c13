"""A local Ray, and the nodes of `cluster/local.py`, are out of the network's reach."""

import json
import os
import shlex
import subprocess
import sys
import tempfile
import textwrap
from pathlib import Path

import psutil
import pytest
from listening import is_loopback, listening

from cluster import local

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]


def test_every_port_of_a_local_ray_listens_on_loopback():
    """In a process of its own: Ray decides when it is imported."""
    code = textwrap.dedent("""
        import json
        import psutil
        from listening import listening
        from pipeline.config import Cluster
        from pipeline.runtime.session import ray_session

        with ray_session(Cluster()):
            import ray
            assert ray.get(ray.remote(lambda: 1).remote()) == 1
            me = psutil.Process()
            processes = [me, *me.children(recursive=True)]
            print(json.dumps([port for process in processes for port in listening(process)]))
    """)
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    environment["PYTHONPATH"] = f"{ROOT}{os.pathsep}{ROOT / 'tests'}"
    ended = subprocess.run(
        [sys.executable, "-c", code],
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    ports = json.loads(ended.stdout.splitlines()[-1])
    assert len(ports) > 5
    assert [port for port in ports if not is_loopback(port)] == []


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
    assert psutil.wait_procs(processes, timeout=10)[1] == []


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
