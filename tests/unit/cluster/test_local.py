"""`cluster/local.py` as a user sees it, with a stand-in for `ray start`."""

import json
import re
import socket

import psutil
import pytest
from typer.testing import CliRunner

from cluster import local

# As Ray's, a node has descendants, also in a session of their own.
NODE = """#!/bin/sh
echo "$@"
{first}
setsid sleep 300 &
sleep 300 &
echo "Ray runtime started."
wait
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """For a cluster whose nodes are those of a stand-in for `ray`."""
    binaries = tmp_path / "bin"
    binaries.mkdir()
    monkeypatch.setattr(local.sys, "executable", str(binaries / "python"))
    monkeypatch.setattr(local, "GRACE_SECONDS", 0.5)
    monkeypatch.setattr(local, "MOST_FOLDER_BYTES", 200)  # there are no sockets
    write_ray(tmp_path)
    yield tmp_path / "cluster"
    run(tmp_path / "cluster", "stop")


def write_ray(place, first=""):
    (place / "bin" / "ray").write_text(NODE.format(first=first))
    (place / "bin" / "ray").chmod(0o755)


def run(folder, command, *arguments):
    return CliRunner().invoke(local.app, [command, *arguments, f"--folder={folder}"])


def start(folder, *arguments):
    return run(folder, "start", "--port=0", "--job-port=0", *arguments)


def trees(folder):
    nodes = json.loads((folder / "cluster.json").read_text())["nodes"]
    return [local._tree(*each) for each in nodes.values()]


def test_nodes_start_with_a_token_and_say_how_to_join(folder):
    started = start(folder, "--workers=1", "--cpus-per-node=3")
    assert started.exit_code == 0, started.stderr
    exported = dict(re.findall(r"^export (\w+)=(.+)$", started.stdout, re.MULTILINE))
    assert exported["RAY_AUTH_MODE"] == "token"
    assert exported["RAY_AUTH_TOKEN_PATH"] == str(folder / "auth_token")
    assert (folder / "auth_token").stat().st_mode & 0o777 == 0o600
    assert len((folder / "auth_token").read_text()) >= 32
    assert folder.stat().st_mode & 0o777 == 0o700
    head, worker = ((folder / f"node-{number}.log").read_text() for number in (0, 1))
    port = exported["RAY_ADDRESS"].removeprefix("LOCALHOST:")
    assert f"--port={port} " in head
    assert "--head" in head
    assert f"--address=LOCALHOST:{port}" in worker
    assert "--num-cpus=3" in worker
    shown = run(folder, "status")
    assert shown.stdout == started.stdout
    assert re.findall(r"node-\d.*? runs", shown.stderr) == ["node-0 (head) runs", "node-1 runs"]


def test_a_kill_reaches_all_of_a_node_and_nothing_else(folder):
    start(folder, "--workers=1")
    head, worker = trees(folder)
    assert len(head) == len(worker) == 3
    assert run(folder, "kill-node", "1").exit_code == 0
    assert psutil.wait_procs(worker, timeout=60)[1] == []
    assert all(process.is_running() for process in head)
    assert "node-1 has ended" in run(folder, "status").stderr
    assert "there is no node 7; the nodes are: 0, 1" in run(folder, "kill-node", "7").stderr
    assert "already" in start(folder).stderr


def test_stop_ends_every_process_and_says_what_to_unset(folder):
    exports = start(folder).stdout
    processes = [process for tree in trees(folder) for process in tree]
    stopped = run(folder, "stop")
    assert psutil.wait_procs(processes, timeout=60)[1] == []
    assert not folder.exists()
    names = re.findall(r"^export (\w+)=", exports, re.MULTILINE)
    assert stopped.stdout == f"unset {' '.join(names)}\n"


def test_a_later_process_of_the_same_id_is_not_touched():
    process = psutil.Process()
    assert local._tree(process.pid, process.create_time())[0] == process
    assert local._tree(process.pid, process.create_time() - 3600) == []


@pytest.mark.parametrize("command", [["stop"], ["status"], ["kill-node", "1"]])
def test_without_a_cluster_there_is_nothing_to_do(tmp_path, command):
    failed = run(tmp_path, *command)
    assert failed.exit_code == 1
    assert f"no cluster was started from {tmp_path}" in failed.stderr


def test_a_folder_too_long_for_sockets_is_refused_before_anything_starts(tmp_path):
    folder = tmp_path / ("x" * 80)
    assert "choose a --folder of at most 31 bytes" in start(folder).stderr
    assert not folder.exists()


def test_a_port_in_use_is_reported(folder):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        failed = run(folder, "start", f"--port={port}")
    assert f"port {port} is taken" in failed.stderr
    assert "--port and --job-port" in failed.stderr
    assert not folder.exists()


def test_a_node_that_does_not_start_says_why_and_leaves_nothing(folder, tmp_path):
    write_ray(tmp_path, first="echo no memory; exit 1")
    failed = start(folder)
    assert failed.exit_code == 1
    assert re.search(r"node-0 did not start; `ray start` said:\n.*\nno memory", failed.stderr)
    assert not folder.exists()
