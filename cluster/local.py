"""A Ray cluster of several nodes on one machine, each a `ray start` of its own, with a token.

    eval "$(python cluster/local.py start --workers 2)"
    python -m pipeline submit CONFIG
    eval "$(python cluster/local.py stop)"

The nodes inherit the environment of `start`: set credentials for storage and the tracker's address
there. Every port listens on 127.0.0.1 alone. A folder holds the token, a log of each node and the
process ids; `stop` and `kill-node` end exactly what was started.
"""

import json
import os
import secrets
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any, NoReturn

import psutil
import typer

START_SECONDS, GRACE_SECONDS = 120.0, 10.0
# Ray replaces 127.0.0.1 and localhost by the machine's address on the network, and then listens there.
# For the head, this variable switches that off, on Linux too; a worker node must not have it. Ray
# leaves localhost in capitals alone: who joins by this name is a node, or a driver, on 127.0.0.1.
LOOPBACK = {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}
HOST, HOST_TO_JOIN = "127.0.0.1", "LOCALHOST"
# Nodes of one machine share its memory; stages pass their results through the storage.
OBJECT_STORE_BYTES = 256 << 20
# The path of a Unix socket holds 107 bytes; Ray appends at most 69 to a node's folder.
MOST_FOLDER_BYTES = 107 - 69 - len("/node-9")

app = typer.Typer(help=__doc__, no_args_is_help=True, add_completion=False)


def _default_folder() -> Path:
    return Path(tempfile.gettempdir()) / f"ray-local-{os.getuid()}"


Folder = Annotated[
    Path, typer.Option(default_factory=_default_folder, help="For the token, logs and process ids.")
]


@app.command()
def start(
    folder: Folder,
    workers: Annotated[int, typer.Option(min=0, help="Nodes in addition to the head.")] = 1,
    cpus_per_node: Annotated[int, typer.Option(min=1)] = 1,
    port: Annotated[int, typer.Option(min=0, help="The head's; 0 for a free one.")] = 6379,
    job_port: Annotated[int, typer.Option(min=0, help="The dashboard's; 0 for a free one.")] = 8265,
) -> None:
    """Start a head and workers; prints the variables to join them, for `eval`."""
    folder = folder.resolve()
    if (folder / "cluster.json").exists():
        _fail(
            f"a cluster was already started from {folder}: end it with `stop`, or choose another --folder"
        )
    if len(os.fsencode(folder)) > MOST_FOLDER_BYTES:
        _fail(
            f"the name {folder} is too long for Ray's sockets in it: choose a --folder of at most "
            f"{MOST_FOLDER_BYTES} bytes"
        )
    head, jobs = _usable_port(port), _usable_port(job_port)
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    token = os.open(folder / "auth_token", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(token, "w", encoding="utf-8") as file:
        file.write(secrets.token_hex(32))
    environment = {
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN_PATH": str(folder / "auth_token"),
        "RAY_ADDRESS": f"{HOST_TO_JOIN}:{head}",
        "RAY_API_SERVER_ADDRESS": f"http://{HOST}:{jobs}",
    }
    state: dict[str, Any] = {"environment": environment, "nodes": {}}
    for number in range(1 + workers):
        log = folder / f"node-{number}.log"
        process = _launch(log, number, cpus_per_node, environment)
        started = psutil.Process(process.pid).create_time()
        state["nodes"][str(number)] = [process.pid, started]
        (folder / "cluster.json").write_text(json.dumps(state), encoding="utf-8")
        if not _wait(lambda log=log: "Ray runtime started" in log.read_text(), process):
            text = log.read_text(encoding="utf-8", errors="replace").strip()[-2000:]
            stop(folder)
            _fail(f"node-{number} did not start; `ray start` said:\n{text}")
    typer.echo(f"{1 + workers} nodes of {cpus_per_node} CPU; end them with `stop`", err=True)
    _show(environment)


@app.command()
def status(folder: Folder) -> None:
    """Show which nodes run; prints the variables again, for `eval`."""
    state = _read(folder)
    for number, (pid, started) in state["nodes"].items():
        what = "runs" if _tree(pid, started) else "has ended"
        typer.echo(f"node-{number}{' (head)' * (number == '0')} {what}, process {pid}", err=True)
    _show(state["environment"])


@app.command()
def kill_node(number: int, folder: Folder) -> None:
    """SIGKILL all processes of one node, like a power failure."""
    nodes = _read(folder)["nodes"]
    if str(number) not in nodes:
        _fail(f"there is no node {number}; the nodes are: {', '.join(nodes)}")
    _kill(_tree(*nodes[str(number)]))
    typer.echo(f"node-{number} was killed", err=True)


@app.command()
def stop(folder: Folder) -> None:
    """End every node, the head last, and delete the folder; prints what to unset, for `eval`."""
    state = _read(folder)
    for pid, started in reversed(state["nodes"].values()):
        processes = _tree(pid, started)
        if processes:
            with suppress(psutil.NoSuchProcess):
                processes[0].send_signal(signal.SIGTERM)
        _kill(psutil.wait_procs(processes, timeout=GRACE_SECONDS)[1])
    shutil.rmtree(folder)
    typer.echo("stopped; shells that evaluated `start` still need this (or `eval` it):", err=True)
    typer.echo(f"unset {' '.join(state['environment'])}")


def _launch(
    log: Path, number: int, cpus: int, environment: Mapping[str, str]
) -> "subprocess.Popen[bytes]":
    """A `ray start` that stays as long as its node, and is the ancestor of all of its processes."""
    options: dict[str, Any] = {
        "node-name": f"node-{number}",
        # Two nodes of one folder would unpack a job's package over each other.
        "temp-dir": log.with_suffix(""),
        "num-cpus": cpus,
        "num-gpus": 0,  # every node of the machine would offer the same GPUs
        "object-store-memory": OBJECT_STORE_BYTES,
        "min-worker-port": 0,
        "max-worker-port": 0,
        "dashboard-agent-listen-port": 0,
    }
    if number == 0:
        options["node-ip-address"] = HOST
        options["port"] = environment["RAY_ADDRESS"].rpartition(":")[2]
        options["dashboard-port"] = environment["RAY_API_SERVER_ADDRESS"].rpartition(":")[2]
        options["ray-client-server-port"] = _usable_port(0)
    else:
        options["address"] = environment["RAY_ADDRESS"]
    # These could point a node or its jobs to another cluster.
    foreign = {*environment, *LOOPBACK, "RAY_AUTH_TOKEN"}
    inherited = {name: value for name, value in os.environ.items() if name not in foreign}
    token = {name: value for name, value in environment.items() if "AUTH" in name}
    # A job's `python` is this one, even if no environment is active.
    binaries = Path(sys.executable).parent
    path = {"PATH": f"{binaries}{os.pathsep}{inherited.get('PATH', '')}"}
    given = [f"--{name}={value}" for name, value in options.items()]
    with log.open("wb") as output:
        return subprocess.Popen(  # noqa: S603 (our own)
            [binaries / "ray", "start", "--block", *given, *(["--head"] if number == 0 else [])],
            env={**inherited, **token, **path, **(LOOPBACK if number == 0 else {})},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


def _tree(pid: int, started: float) -> list[psutil.Process]:
    """A node's processes, first its `ray start`; none if another process has its id by now."""
    with suppress(psutil.NoSuchProcess):
        process = psutil.Process(pid)
        if process.create_time() == started and process.status() != psutil.STATUS_ZOMBIE:
            return [process, *process.children(recursive=True)]
    return []


def _kill(processes: list[psutil.Process]) -> None:
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            process.kill()


def _wait(condition: Callable[[], bool], process: "subprocess.Popen[bytes]") -> bool:
    """Whether the condition becomes true while the process lives, within a time."""
    deadline = time.monotonic() + START_SECONDS
    while not (holds := condition()) and time.monotonic() < deadline:
        if process.poll() is not None:
            return False
        time.sleep(0.1)
    return holds


def _usable_port(wanted: int) -> int:
    """`wanted` if it is free, or a free one for 0."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, wanted))
        except OSError as error:
            _fail(
                f"port {wanted} is taken ({error.strerror}), perhaps by another Ray: choose others "
                "with --port and --job-port (0 for free ones)"
            )
        return int(probe.getsockname()[1])


def _read(folder: Path) -> dict[str, Any]:
    try:
        return dict(json.loads((folder / "cluster.json").read_text(encoding="utf-8")))
    except FileNotFoundError:
        _fail(f"no cluster was started from {folder}: start one, or name its --folder")


def _show(environment: Mapping[str, str]) -> None:
    lines = [f"export {name}={shlex.quote(value)}" for name, value in environment.items()]
    typer.echo("\n".join(lines))


def _fail(message: str) -> NoReturn:
    typer.echo(f"error: {message}", err=True)
    raise typer.Exit(1)


if __name__ == "__main__":
    app()
