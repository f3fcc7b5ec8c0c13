"""`submit`: a run as a job on a Ray cluster, checked here before it is sent; needs no torch."""

import os
import re
import secrets
from collections.abc import Sequence
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
from pipeline.storage.folders import printable

if TYPE_CHECKING:
    from pipeline.runtime.job import Job, JobEnd

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
        address: the dashboard's, http://host:port; the default comes from Ray's own variables.
        console: receives messages and the job's log.
        follow: wait for the job's end; otherwise only submit it.

    Raises:
        ConfigError: a mistake found before anything is sent.
        ClusterError: the cluster cannot be reached, or refuses the job.
    """
    configs = load_all(command.paths, command.overrides)
    job = _prepare(configs, command, _dashboard(address), console)
    console.print(f"The plain Ray command:\n{job.command}", markup=False, soft_wrap=True)

    from pipeline.runtime.job import JobServer

    server = JobServer(job.address)
    server.submit(job)
    console.print(f"\nsubmitted: {job.submission_id}", style="bold", markup=False)
    _show_commands(job, console)
    if not follow:
        return 0
    try:
        end = server.follow(
            job.submission_id,
            lambda text: console.out(text, highlight=False, end=""),
            lambda line: console.print(line, style="bold yellow", markup=False, soft_wrap=True),
        )
    except KeyboardInterrupt:
        console.print("\nThe job continues.", style="bold")
        _show_commands(job, console)
        return STOPPED_FOLLOWING
    _show_end(end, console)
    return 0 if end.status == "SUCCEEDED" else end.driver_exit_code or 1


def _prepare(
    configs: Sequence[Config], command: RunCommand, address: str, console: Console
) -> "Job":
    """The job, after every check that this machine can make."""
    folder, storage = Path.cwd(), configs[0].storage
    submit_paths.require_shared_storage(storage)
    names = submit_paths.needed(configs, command.paths, command.send, folder)
    _require_no_secret(command.overrides)
    notes = _check_graph(configs, command.only)

    from pipeline.runtime.job import Job
    from pipeline.runtime.package import Package

    allowed = [name for path in command.send if (name := submit_paths.name_in(folder, path))]
    package = Package.of(folder, storage, _tracking_server(configs), allowed)
    submit_paths.require_sent(names, package.holds)
    notes += [f"all nodes must share {path}" for path in submit_paths.shared(configs)]
    if _would_lose_metrics(configs):
        notes.append(
            "no MLflow server is named, so metrics are lost with the job's copy of this folder: set "
            "MLFLOW_TRACKING_URI here or on the nodes, or --set tracking.enabled=false"
        )
    notes += _left_out(
        package.secrets, "they look like secrets; --send NAME sends one all the same"
    )
    notes += _left_out(package.unnamed, "their names are not UTF-8")
    size = readable_bytes(package.num_bytes)
    notes.append(f"{len(package.files)} files of {folder} are sent with the job, {size}")
    for note in notes:
        console.print(note, markup=False, highlight=False, soft_wrap=True)
    arguments = command.arguments(folder)
    return Job(address, _submission_id(configs), arguments, package.runtime_env)


def _left_out(names: Sequence[str], reason: str) -> list[str]:
    if not names:
        return []
    more = f" and {len(names) - NAMED_FILES} more" if len(names) > NAMED_FILES else ""
    listed = ", ".join(map(printable, names[:NAMED_FILES]))
    return [f"left out: {listed}{more}: {reason}"]


def _dashboard(address: str | None) -> str:
    """The address of the cluster's dashboard.

    Raises:
        ConfigError: none is named, or it is not a web address.
    """
    named = {"--address": address}
    named |= {name: os.environ.get(name) for name in ("RAY_API_SERVER_ADDRESS", "RAY_ADDRESS")}
    source, url = next(((name, value) for name, value in named.items() if value), ("", ""))
    if not url:
        raise ConfigError(
            "no cluster is named: give --address http://head:8265, the address of the head node's "
            "dashboard, or set RAY_API_SERVER_ADDRESS to it"
        )
    if not re.fullmatch(r"https?://[^/?#\s]+/?", url):
        raise ConfigError(
            f"'{url}' ({source}) is not the address of a dashboard, which accepts jobs over HTTP: "
            "give --address http://head:8265"
        )
    if redact(url) != url:
        raise ConfigError(
            f"the address {redact(url)} ({source}) contains a user or password: remove them; a "
            "cluster checks a token instead (RAY_AUTH_MODE=token, RAY_AUTH_TOKEN_PATH)"
        )
    return url.rstrip("/")


def _check_graph(configs: Sequence[Config], only: Sequence[str]) -> list[str]:
    """Build the graph that would run; returns one line for each path that cannot be checked here.

    Raises:
        ConfigError, CorpusError: it cannot be built.
    """
    absent = submit_paths.absent(configs)
    if not absent:
        build(configs, only, sees_storage=False)
    return [f"{path} is not on this machine: the job will check it itself" for path in absent]


def _require_no_secret(overrides: Sequence[str]) -> None:
    for override in overrides:
        if redact(override) != override:
            raise ConfigError(
                f"--set {redact(override)} contains a user, password or key, which the dashboard would "
                "show with the job's command: remove it, and set it on the nodes"
            )


def _tracking_server(configs: Sequence[Config]) -> str | None:
    """`MLFLOW_TRACKING_URI` if it names a server; a file on this machine is useless to a job.

    Raises:
        ConfigError: a config's own tracking URI contains a password, which would be sent.
    """
    for config in configs:
        uri = config.tracking.uri or ""
        if redact(uri) != uri:
            raise ConfigError(
                f"tracking.uri {redact(uri)} contains a user or password, which would be sent with the "
                "job: remove them, and set MLFLOW_TRACKING_USERNAME and "
                "MLFLOW_TRACKING_PASSWORD on the nodes"
            )
    named = os.environ.get("MLFLOW_TRACKING_URI", "")
    return named if named.startswith(("http://", "https://")) else None


def _would_lose_metrics(configs: Sequence[Config]) -> bool:
    """Whether metrics would be written to a file in the job's copy of this folder."""
    if _tracking_server(configs) is not None:
        return False
    tracked = [config for config in configs if config.tracking.enabled]
    return any(config.tracking.uri is None and "://" in config.storage for config in tracked)


def _submission_id(configs: Sequence[Config]) -> str:
    """The variants' names and a random part, in characters that a URL allows."""
    names = [re.sub(r"[^A-Za-z0-9_-]+", "-", config.variant) for config in configs]
    more = [f"{len(names) - NAMED_VARIANTS}-more"] if len(names) > NAMED_VARIANTS else []
    return "-".join([*names[:NAMED_VARIANTS], *more, secrets.token_hex(4)])


def _show_commands(job: "Job", console: Console) -> None:
    for what, action in (
        ("follow", ("logs", "--follow")),
        ("status", ("status",)),
        ("stop", ("stop",)),
    ):
        console.print(f"  {what:6} {job.command_to(*action)}", markup=False, soft_wrap=True)


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
