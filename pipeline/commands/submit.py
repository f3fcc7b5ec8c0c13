"""`submit`: a run as a job on a Ray cluster, checked here before it is sent; needs no torch."""

import json
import os
import re
import secrets
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from pipeline.commands import submit_paths
from pipeline.config import Config, ConfigError
from pipeline.config.files import load_all
from pipeline.config.shipped import name_in_package
from pipeline.graph.disk_space import readable_bytes
from pipeline.graph.graph import build
from pipeline.redaction import redact
from pipeline.runtime.environment import cluster_environment, job_environment
from pipeline.runtime.package import Package
from pipeline.storage.folders import printable
from pipeline.storage.provenance import SENT_COMMIT, own_commit

if TYPE_CHECKING:
    from pipeline.runtime.job import JobEnd

NAMED_VARIANTS = 3
NAMED_FILES = 20
STOPPED_FOLLOWING = 130  # what a shell reports of a command that ended by Ctrl-C


@dataclass(frozen=True)
class RunCommand:
    """The arguments of `run`: config files, `key.path=value` overrides, names of stages.

    `send` are files and folders that are sent although they look like secrets.
    """

    paths: Sequence[Path]
    overrides: Sequence[str]
    only: Sequence[str]
    send: Sequence[Path] = ()

    def arguments(self, folder: Path) -> tuple[str, ...]:
        """The command for a job whose current folder is a copy of `folder`."""
        names = [
            name_in_package(path) or str(submit_paths.name_in(folder, path)) for path in self.paths
        ]
        # A job runs on the cluster that it is in, whatever cluster a config names.
        settings = [f"--set={setting}" for setting in (*self.overrides, "cluster.address=auto")]
        stages = [f"--stage={stage}" for stage in self.only]
        return ("python", "-m", "pipeline", "run", *names, *settings, *stages)


def submit(command: RunCommand, address: str | None, console: Console, *, follow: bool) -> int:
    """Submit a run to a cluster and follow it; returns the exit code.

    Args:
        command: the run; its configs lie in the current folder.
        address: the dashboard's, http://host:port.
        console: receives messages and the job's log.
        follow: wait for the job's end; otherwise only submit it.

    Raises:
        ConfigError: a mistake found before anything is sent.
        ClusterError: the cluster cannot be reached, or refuses the job.
    """
    url = _dashboard(address)
    configs = load_all(command.paths, command.overrides)
    package, notes = _prepare(configs, command)
    tracker = _tracking_server()
    _refuse_secrets(configs, command, tracker)
    for note in notes:
        console.print(note, markup=False, highlight=False, soft_wrap=True)

    from pipeline.runtime.job import JobServer

    server, name = JobServer(url), _submission_id(configs)
    environment = job_environment(tracker)
    environment["env_vars"] |= {SENT_COMMIT: json.dumps(own_commit())}
    server.submit(name, command.arguments(Path.cwd()), package, environment)
    console.print(f"\nsubmitted: {name}", style="bold", markup=False)
    actions = {"follow": ("logs", "--follow"), "status": ("status",), "stop": ("stop",)}
    commands = [f"  {what:6} {server.command_to(*do, name)}" for what, do in actions.items()]
    console.print("\n".join(commands), markup=False, soft_wrap=True)
    if not follow:
        return 0
    try:
        end = server.follow(
            name,
            lambda text: console.out(text, highlight=False, end=""),
            lambda line: console.print(line, style="bold yellow", markup=False, soft_wrap=True),
        )
    except KeyboardInterrupt:
        console.print("\nThe job continues.", style="bold")
        console.print("\n".join(commands), markup=False, soft_wrap=True)
        return STOPPED_FOLLOWING
    _show_end(end, console)
    return 0 if end.status == "SUCCEEDED" else end.driver_exit_code or 1


def _dashboard(address: str | None) -> str:
    """The address of the cluster's dashboard.

    Raises:
        ConfigError: none is named, or it is not a web address, or one with a password.
    """
    cure = "give --address http://head:8265, the address of the head node's dashboard"
    if not address:
        raise ConfigError(f"no cluster is named: {cure}, or set RAY_API_SERVER_ADDRESS to it")
    if redact(address) != address:
        raise ConfigError(
            f"the address {redact(address)} contains a user or password: remove them; a cluster "
            "checks a token instead (RAY_AUTH_MODE=token, RAY_AUTH_TOKEN_PATH)"
        )
    if not re.fullmatch(r"https?://[^/?#\s]+/?", address):
        raise ConfigError(
            f"'{address}' is not the address of a dashboard, which accepts jobs over HTTP: {cure}"
        )
    return address.rstrip("/")


def _prepare(configs: Sequence[Config], command: RunCommand) -> tuple[Package, list[str]]:
    """What is sent, and what the user should know of it, after every check that needs no cluster."""
    folder, storage = Path.cwd(), configs[0].storage
    submit_paths.require_shared_storage(storage)
    absent = [path for path in submit_paths.absolute_inputs(configs) if not path.exists()]
    if not absent:
        build(configs, command.only, sees_storage=False)
    allowed = [name for path in command.send if (name := submit_paths.name_in(folder, path))]
    package = Package.of(folder, submit_paths.local_path(storage), allowed)
    submit_paths.require_sent(configs, command.paths, package, command.send)
    size = readable_bytes(package.num_bytes)
    return package, [
        *(f"{path} is not on this machine: the job will check it itself" for path in absent),
        *(f"all nodes must share {path}" for path in submit_paths.shared(configs)),
        *_lost_metrics(configs),
        *_left_out(package.secrets, "look like secrets; --send NAME sends one all the same"),
        *_left_out(package.unnamed, "have names that are not UTF-8"),
        f"{len(package.files)} files of {folder} are sent with the job, {size}",
    ]


def _left_out(names: Sequence[str], reason: str) -> Iterable[str]:
    if names:
        more = f" and {len(names) - NAMED_FILES} more" if len(names) > NAMED_FILES else ""
        listed = ", ".join(map(printable, sorted(names)[:NAMED_FILES]))
        yield f"left out: {listed}{more}: they {reason}"


def _lost_metrics(configs: Sequence[Config]) -> Iterable[str]:
    """A line if metrics would be written to a file in the job's copy of this folder."""
    tracked = [config for config in configs if config.tracking.enabled]
    files = any(config.tracking.uri is None and "://" in config.storage for config in tracked)
    if files and _tracking_server() is None:
        yield (
            "no MLflow server is named, so metrics are lost with the job's copy of this folder: set "
            "MLFLOW_TRACKING_URI here or on the nodes, or --set tracking.enabled=false"
        )


def _tracking_server() -> str | None:
    """`MLFLOW_TRACKING_URI` if it names a server; a file on this machine is useless to a job."""
    named = os.environ.get("MLFLOW_TRACKING_URI", "")
    return named if named.startswith(("http://", "https://")) else None


def _refuse_secrets(configs: Sequence[Config], command: RunCommand, tracker: str | None) -> None:
    """Refuse settings with a user, a password or a key, since a dashboard shows a job's settings.

    Raises:
        ConfigError: there is one.
    """
    settings = {f"--set {redact(setting)}": setting for setting in command.overrides}
    settings |= {f"tracking.uri of {one.variant}": one.tracking.uri or "" for one in configs}
    settings |= {**cluster_environment(), "MLFLOW_TRACKING_URI": tracker or ""}
    for name, value in settings.items():
        if redact(value) != value:
            raise ConfigError(
                f"{name} contains a user, password or key, which the dashboard would show with the "
                "job: remove it here, and set it on the nodes (MLFLOW_TRACKING_USERNAME and "
                "MLFLOW_TRACKING_PASSWORD, AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY)"
            )


def _submission_id(configs: Sequence[Config]) -> str:
    """The variants' names and a random part, in characters that a URL allows."""
    names = [re.sub(r"[^A-Za-z0-9_-]+", "-", config.variant) for config in configs]
    more = [f"{len(names) - NAMED_VARIANTS}-more"] if len(names) > NAMED_VARIANTS else []
    return "-".join([*names[:NAMED_VARIANTS], *more, secrets.token_hex(4)])


def _show_end(end: "JobEnd", console: Console) -> None:
    """How the job ended; the log has shown why its command failed."""
    if end.status == "SUCCEEDED":
        console.print("\nThe job has succeeded.", style="bold green")
        return
    if end.status == "STOPPED":
        why = "it was stopped"
    elif end.driver_exit_code is not None:
        why = f"its command ended with exit code {end.driver_exit_code}; the log above says why"
    else:
        why = (end.message or "").strip() or "Ray gives no reason"
    console.print(f"\nThe job failed: {why}", style="bold red", markup=False)
    console.print("Completed work stays in the storage: the same command continues from it.")
