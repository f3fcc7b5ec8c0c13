"""A Ray cluster of several nodes on one machine, each of real `ray start` processes, with a token.

    eval "$(python cluster/local.py start --workers 2)"
    python -m pipeline submit CONFIG
    eval "$(python cluster/local.py stop)"

A state file lists what was started; `stop` and `kill-node` end exactly that. The nodes inherit the
environment of `start`: set credentials for storage and the tracker's address there. Every port
listens on 127.0.0.1 alone.
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
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Any
from urllib.request import Request, urlopen

import psutil
import typer

STATE = "cluster.json"
TOKEN = "auth_token"  # noqa: S105 (a file's name)
MARK = "RAY_LOCAL_NODE"
AUTHENTICATION = ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN_PATH")
START_SECONDS, GRACE_SECONDS, POLL_SECONDS = 120.0, 5.0, 0.1
# Ray replaces 127.0.0.1 and localhost by the machine's address on the network, and then listens there.
# For the head, this variable switches that off, on Linux too; a worker node must not have it. Ray
# leaves localhost in capitals alone: who joins by this name is a node, or a driver, on 127.0.0.1.
LOOPBACK = {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}
HOST, HOST_TO_JOIN = "127.0.0.1", "LOCALHOST"
# Nodes of one machine share its memory; stages pass their results through the storage.
OBJECT_STORE_BYTES = 256 << 20
# The path of a Unix socket holds 107 bytes; Ray appends at most 72 to the name of a node's folder.
SOCKET_BYTES, RAY_BYTES = 107, 72
SAME_START_SECONDS = 2.0


class LocalClusterError(RuntimeError):
    """The cluster cannot be started or found; the message says why, and the cure."""


@dataclass(frozen=True)
class Node:
    """One node: the `ray start` with this process id, and all of its descendants.

    `started` (seconds since 1970) distinguishes it from a later process with the same id; `mark` is
    in the environment of its processes.
    """

    number: int
    pid: int
    started: float
    mark: str

    @property
    def name(self) -> str:
        return f"node-{self.number}"

    def processes(self) -> list[psutil.Process]:
        """The node's running processes, even if `ray start` or the shell of a job has ended."""
        known = {process.pid: process for process in psutil.process_iter()}
        if self.pid in known and not self._is_ours(known[self.pid]):
            return []
        origins = {pid: origin for pid, process in known.items() if (origin := _origin(process))}
        sessions, ours = {self.pid}, dict[int, psutil.Process]()
        while True:
            more = [
                pid
                for pid, (parent, session, mark) in origins.items()
                if pid not in ours and (session in sessions or parent in ours or mark == self.mark)
            ]
            if not more:
                return [process for process in ours.values() if _is_running(process)]
            ours.update({pid: known[pid] for pid in more})
            sessions.update(origins[pid][1] for pid in more)

    def is_alive(self) -> bool:
        """Whether its `ray start` runs; that ends when any part of the node ends."""
        try:
            process = psutil.Process(self.pid)
            return self._is_ours(process) and _is_running(process)
        except psutil.NoSuchProcess:
            return False

    def kill(self) -> None:
        """SIGKILL all of its processes, like a power failure."""
        deadline = time.monotonic() + GRACE_SECONDS
        while (left := self.processes()) and time.monotonic() < deadline:
            for process in left:
                with suppress(psutil.NoSuchProcess):
                    process.kill()

    def end(self) -> None:
        """Let it leave the cluster; kill what is still running after that."""
        if self.is_alive():
            os.kill(self.pid, signal.SIGTERM)
            _wait(lambda: not self.processes(), GRACE_SECONDS)
        self.kill()

    def _is_ours(self, process: psutil.Process) -> bool:
        with suppress(psutil.Error):
            return abs(process.create_time() - self.started) < SAME_START_SECONDS
        return False


@dataclass
class LocalCluster:
    """A cluster with its state in `folder`; node 0 is the head.

    Attributes:
        address: where drivers and nodes join, host:port.
        job_address: the dashboard, http://host:port, which accepts jobs.
        cpus_per_node: what each node offers.
        next_number: of the next node; numbers are never reused.
    """

    folder: Path
    address: str
    job_address: str
    cpus_per_node: int
    nodes: list[Node] = field(default_factory=list)
    next_number: int = 0

    @classmethod
    def start(
        cls, folder: Path, workers: int = 1, cpus_per_node: int = 1, *, port: int, job_port: int
    ) -> "LocalCluster":
        """Start a head and `workers` more nodes, and wait for them; port 0 chooses a free one.

        Raises:
            LocalClusterError: a cluster runs from this folder, a port is taken, or a node fails.
        """
        _check(folder)
        head, jobs = (_usable_port(wanted) for wanted in (port, job_port))
        _make(folder)
        cluster = cls(folder, f"{HOST_TO_JOIN}:{head}", f"http://{HOST}:{jobs}", cpus_per_node)
        try:
            for _ in range(1 + workers):
                cluster.add_node()
        except BaseException:
            cluster.stop()
            raise
        return cluster

    @classmethod
    def read(cls, folder: Path) -> "LocalCluster":
        """The cluster that was started from `folder`.

        Raises:
            LocalClusterError: there is none.
        """
        try:
            state = json.loads((folder / STATE).read_text(encoding="utf-8"))
        except FileNotFoundError as error:
            raise LocalClusterError(
                f"no cluster was started from {folder}: start one with `{_command('start', folder)}`, "
                "or name its --folder"
            ) from error
        nodes = [Node(**node) for node in state.pop("nodes")]
        return cls(folder=folder, nodes=nodes, **state)

    @property
    def environment(self) -> dict[str, str]:
        """The variables with which a process joins the cluster or submits jobs to it."""
        return {
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN_PATH": str(self.folder / TOKEN),
            "RAY_ADDRESS": self.address,
            "RAY_API_SERVER_ADDRESS": self.job_address,
        }

    def add_node(self) -> Node:
        """Start one more node, and wait until the head lists it."""
        node = self._launch(self.next_number)
        self.nodes.append(node)
        self.next_number += 1
        self._write()

        def joined() -> bool:
            if not node.is_alive():
                log = self._log(node.number).read_text(encoding="utf-8", errors="replace")
                raise LocalClusterError(
                    f"{node.name} did not start; `ray start` said:\n{log.strip()[-2000:]}"
                )
            return node.name in self.members()

        if not _wait(joined, START_SECONDS):
            raise LocalClusterError(f"{node.name} has not joined within {START_SECONDS:.0f} s")
        return node

    def kill_node(self, number: int) -> None:
        """SIGKILL all of a node's processes, and remove it from the state."""
        numbers = [node.number for node in self.nodes]
        if number not in numbers:
            existing = ", ".join(map(str, numbers))
            raise LocalClusterError(f"there is no node {number}; the nodes are: {existing}")
        self.nodes.pop(numbers.index(number)).kill()
        self._write()

    def stop(self) -> None:
        """End every node, the head last, and delete the files."""
        for node in reversed(self.nodes):
            node.end()
        for number in range(self.next_number):
            shutil.rmtree(self._node_folder(number), ignore_errors=True)
            self._log(number).unlink(missing_ok=True)
        for name in (TOKEN, STATE):
            (self.folder / name).unlink(missing_ok=True)

    def members(self) -> list[str]:
        """The names of the nodes that the head lists as alive; none while it does not answer."""
        try:
            nodes = self.ask("/api/v0/nodes?limit=1000")["data"]["result"]["result"]
        except (OSError, ValueError, KeyError, TypeError):
            return []
        return [node["node_name"] for node in nodes if node["state"] == "ALIVE"]

    def ask(self, path: str) -> Any:
        """The dashboard's answer (JSON) to a request with the token."""
        token = (self.folder / TOKEN).read_text(encoding="utf-8")
        header = {"Authorization": f"Bearer {token}"}
        request = Request(f"{self.job_address}{path}", headers=header)  # noqa: S310 (our own)
        with urlopen(request, timeout=10) as answer:  # noqa: S310 (our own)
            return json.load(answer)

    def _launch(self, number: int) -> Node:
        """Start a node's processes in a session of their own."""
        command = [sys.executable, "-m", "ray.scripts.scripts", "start", "--block"]
        command += [f"--{name}={value}" for name, value in self._options(number).items()]
        # These could point a node or its jobs to another cluster.
        foreign = {*self.environment, *LOOPBACK, "RAY_AUTH_TOKEN", "RAY_TMPDIR"}
        environment = {name: value for name, value in os.environ.items() if name not in foreign}
        environment |= {name: self.environment[name] for name in AUTHENTICATION}
        # A job's `python` is this one, even if no environment is active.
        path = f"{Path(sys.executable).parent}{os.pathsep}{environment.get('PATH', '')}"
        environment |= {"PATH": path, "RAY_USAGE_STATS_ENABLED": "0"}
        if number == 0:
            environment |= LOOPBACK
        environment[MARK] = mark = secrets.token_hex(8)
        self._node_folder(number).mkdir()
        with self._log(number).open("wb") as log:
            process = subprocess.Popen(  # noqa: S603 (our own)
                command + ["--head"] * (number == 0),
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        return Node(number, process.pid, psutil.Process(process.pid).create_time(), mark)

    def _options(self, number: int) -> dict[str, Any]:
        """The options of `ray start`; ports that nobody has to know are chosen by Ray."""
        common = {
            "node-name": f"node-{number}",
            "num-cpus": self.cpus_per_node,
            "num-gpus": 0,  # every node of the machine would offer the same GPUs
            "object-store-memory": OBJECT_STORE_BYTES,
            "temp-dir": self._node_folder(number),
            **dict.fromkeys(("min-worker-port", "max-worker-port"), 0),
            "dashboard-agent-listen-port": 0,
        }
        if number > 0:
            return {**common, "address": self.address}
        return {
            **common,
            "node-ip-address": HOST,
            "port": self.address.rpartition(":")[2],
            "dashboard-port": self.job_address.rpartition(":")[2],
            "ray-client-server-port": _usable_port(0),
        }

    def _node_folder(self, number: int) -> Path:
        return self.folder / f"n{number}"

    def _log(self, number: int) -> Path:
        return self.folder / f"n{number}.log"

    def _write(self) -> None:
        state = asdict(self)
        del state["folder"]
        aside = self.folder / f".{STATE}.aside"
        aside.write_text(json.dumps(state, indent=2), encoding="utf-8")
        aside.replace(self.folder / STATE)


def _check(folder: Path) -> None:
    """Refuse an unusable folder, and clean up after a cluster that no longer runs."""
    if len(os.fsencode(folder)) > SOCKET_BYTES - RAY_BYTES:
        raise LocalClusterError(
            f"the name {folder} is too long for Ray's sockets in it: choose a --folder of at "
            f"most {SOCKET_BYTES - RAY_BYTES} characters, such as /tmp/ray-local"
        )
    if (folder / STATE).exists():
        earlier = LocalCluster.read(folder)
        if any(node.processes() for node in earlier.nodes):
            raise LocalClusterError(
                f"a cluster already runs from {folder}: end it with `{_command('stop', folder)}`, "
                "or choose another --folder"
            )
        earlier.stop()


def _make(folder: Path) -> None:
    """Create the folder, which only the user can read, with a token in it."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if folder.stat().st_uid != os.getuid():
        raise LocalClusterError(f"{folder} belongs to another user: choose another --folder")
    token = os.open(folder / TOKEN, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(token, "w", encoding="utf-8") as file:
        file.write(secrets.token_hex(32))


def _usable_port(wanted: int) -> int:
    """`wanted`, or a free one for 0.

    Raises:
        LocalClusterError: it is taken.
    """
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, wanted))
        except OSError as error:
            raise LocalClusterError(
                f"port {wanted} is taken ({error.strerror}), perhaps by another Ray: choose others "
                "with --port and --job-port (0 for free ones)"
            ) from error
        return int(probe.getsockname()[1])


def _origin(process: psutil.Process) -> tuple[int, int, str | None] | None:
    """A process's parent, session and mark; None if it has ended or is another user's."""
    try:
        return process.ppid(), os.getsid(process.pid), process.environ().get(MARK)
    except (psutil.Error, OSError):
        return None


def _is_running(process: psutil.Process) -> bool:
    with suppress(psutil.Error):
        return bool(process.status() != psutil.STATUS_ZOMBIE)
    return False


def _wait(condition: Callable[[], bool], seconds: float) -> bool:
    """Whether the condition holds within so many seconds."""
    deadline = time.monotonic() + seconds
    while not (holds := condition()) and time.monotonic() < deadline:
        time.sleep(POLL_SECONDS)
    return holds


def _default_folder() -> Path:
    return Path(tempfile.gettempdir()) / f"ray-local-{os.getuid()}"


def _command(action: str, folder: Path) -> str:
    option = f" --folder {shlex.quote(str(folder))}" * (folder != _default_folder())
    return f"python cluster/local.py {action}{option}"


app = typer.Typer(help=__doc__, no_args_is_help=True, add_completion=False)
Folder = Annotated[
    Path, typer.Option(default_factory=_default_folder, help="For the state and Ray's files.")
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
    with _explained():
        cluster = LocalCluster.start(
            folder.resolve(), workers, cpus_per_node, port=port, job_port=job_port
        )
    nodes = f"{1 + workers} nodes of {cpus_per_node} CPU at {cluster.address}, jobs at"
    typer.echo(f"{nodes} {cluster.job_address}; end it with `{_command('stop', folder)}`", err=True)
    _show_environment(cluster.environment)


@app.command()
def status(folder: Folder) -> None:
    """Show which nodes run; prints the variables again, for `eval`."""
    with _explained():
        cluster = LocalCluster.read(folder.resolve())
    for node in cluster.nodes:
        state = "runs" if node.is_alive() else "has ended"
        typer.echo(
            f"{node.name}{' (head)' * (node.number == 0)} {state}, process {node.pid}", err=True
        )
    typer.echo(f"the head lists {', '.join(cluster.members()) or 'none'}", err=True)
    _show_environment(cluster.environment)


@app.command()
def kill_node(number: int, folder: Folder) -> None:
    """SIGKILL all processes of one node, like a power failure."""
    with _explained():
        LocalCluster.read(folder.resolve()).kill_node(number)
    typer.echo(f"node-{number} was killed", err=True)


@app.command()
def stop(folder: Folder) -> None:
    """End every node and delete what `start` wrote; prints what to unset, for `eval`."""
    with _explained():
        cluster = LocalCluster.read(folder.resolve())
        cluster.stop()
    typer.echo("stopped; shells that evaluated `start` still need this (or `eval` it):", err=True)
    typer.echo(f"unset {' '.join(cluster.environment)}")


def _show_environment(environment: Mapping[str, str]) -> None:
    lines = [f"export {name}={shlex.quote(value)}" for name, value in environment.items()]
    typer.echo("\n".join(lines))


@contextmanager
def _explained() -> Iterator[None]:
    """Show only the message of the project's own errors."""
    try:
        yield
    except LocalClusterError as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(1) from error


if __name__ == "__main__":
    app()
