"""A local Ray is out of the network's reach."""

import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import psutil
import pytest
from listening import is_loopback, listening

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
