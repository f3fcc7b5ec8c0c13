"""Which processes belong to a node, and the messages of `cluster/local.py`. Starts no Ray."""

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from typer.testing import CliRunner

from cluster import local
from cluster.local import LocalCluster, LocalClusterError, Node

# As a job's driver: in a session of its own, with a child, and left alone when its parent ends.
FAMILY = """
import subprocess, sys, time
sleep = [sys.executable, "-c", "import time; time.sleep(300)"]
nested = f"import subprocess, time; subprocess.Popen({sleep!r}); time.sleep(300)"
subprocess.Popen([sys.executable, "-c", nested], start_new_session=True)
subprocess.Popen(sleep)
time.sleep(300)
"""


def eventually(condition):
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.fixture
def family():
    """A leader with three descendants, two of them in another session."""
    marked = {**os.environ, local.MARK: "mark"}
    leader = subprocess.Popen([sys.executable, "-c", FAMILY], start_new_session=True, env=marked)
    node = Node(1, leader.pid, psutil.Process(leader.pid).create_time(), "mark")
    eventually(lambda: len(node.processes()) == 4)
    started = node.processes()
    yield node
    for process in started:
        if process.is_running():
            process.kill()
    leader.wait()


@pytest.fixture
def bystander():
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(300)"])
    yield process
    process.kill()
    process.wait()


def test_a_kill_reaches_all_of_a_node_and_nothing_else(family, bystander):
    family.kill()
    assert family.processes() == []
    assert not family.is_alive()
    assert bystander.poll() is None


def test_what_outlives_its_leader_is_found_by_its_session(family):
    os.kill(family.pid, signal.SIGKILL)
    eventually(lambda: not family.is_alive())
    assert [one.pid for one in family.processes()] != []
    family.end()
    assert family.processes() == []


def test_a_job_whose_shell_has_ended_still_belongs_to_the_node(family):
    """Its parent is not of the node, and the leader of its session has ended."""
    [shell] = [one for one in family.processes() if os.getsid(one.pid) == one.pid != family.pid]
    [job] = shell.children()
    shell.kill()
    eventually(lambda: not psutil.pid_exists(shell.pid) or job.ppid() != shell.pid)
    assert job in family.processes()
    family.kill()
    assert job not in family.processes()


def test_a_later_process_of_the_same_id_is_not_touched(bystander):
    started = psutil.Process(bystander.pid).create_time()
    node = Node(1, bystander.pid, started - 3600, "mark")
    assert not node.is_alive()
    node.end()
    assert bystander.poll() is None


def refused(*arguments: str) -> str:
    result = CliRunner().invoke(local.app, arguments)
    assert result.exit_code == 1
    assert isinstance(result.exception, SystemExit)
    return result.stderr


@pytest.mark.parametrize("command", [["stop"], ["status"], ["kill-node", "1"]])
def test_without_a_cluster_there_is_nothing_to_do(tmp_path, command):
    message = refused(*command, "--folder", str(tmp_path))
    assert f"no cluster was started from {tmp_path}" in message
    assert "python cluster/local.py start --folder" in message


def test_a_folder_too_long_for_sockets_is_refused_before_anything_starts(tmp_path):
    folder = tmp_path / ("x" * 80)
    assert "choose a --folder of at most 35 characters" in refused("start", f"--folder={folder}")
    assert not folder.exists()


@pytest.fixture
def short(tmp_path, monkeypatch):
    """A folder with any length of name passes for one that is short enough."""
    monkeypatch.setattr(local, "RAY_BYTES", -1000)
    return tmp_path / "cluster"


def test_a_port_in_use_is_reported(short):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        message = refused("start", f"--folder={short}", f"--port={port}")
    assert f"port {port} is taken" in message
    assert "--port and --job-port" in message
    assert not short.exists()


def test_a_second_cluster_from_one_folder_is_refused_while_the_first_lives(short, family):
    short.mkdir()
    state = LocalCluster(short, "10.0.0.1:6379", "http://127.0.0.1:8265", 1, [family], 2)
    state._write()
    assert "already runs from" in refused("start", f"--folder={short}")
    with pytest.raises(LocalClusterError, match="there is no node 7; the nodes are: 1"):
        LocalCluster.read(short).kill_node(7)
    LocalCluster.read(short).kill_node(1)
    assert family.processes() == []
    assert LocalCluster.read(short).nodes == []


def test_a_node_that_does_not_start_says_why_and_leaves_nothing(short, monkeypatch):
    monkeypatch.setattr(LocalCluster, "_options", lambda *_: {"no-such-option": 1})
    message = refused("start", f"--folder={short}", "--port=0", "--job-port=0")
    assert "node-0 did not start" in message
    assert "no-such-option" in message
    assert list(short.iterdir()) == []


def test_stop_says_what_to_unset(short):
    short.mkdir()
    cluster = LocalCluster(short, "127.0.0.1:6379", "http://127.0.0.1:8265", 1)
    cluster._write()
    result = CliRunner().invoke(local.app, ["stop", f"--folder={short}"])
    assert result.exit_code == 0
    exports = "".join(f"export {name}=x; " for name in cluster.environment)
    shell = subprocess.run(
        ["/bin/bash", "-c", f"{exports} eval '{result.stdout}'; env"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert not [line for line in shell.stdout.splitlines() if line.endswith("=x")]


def test_the_token_is_the_users_alone(short):
    local._make(short)
    [token] = short.iterdir()
    assert token.stat().st_mode & 0o777 == 0o600
    assert short.stat().st_mode & 0o777 == 0o700
    assert len(token.read_text()) >= 32
    assert LocalCluster(short, "h:1", "http://h:2", 1).environment["RAY_AUTH_TOKEN_PATH"] == str(
        Path(short, token.name)
    )
