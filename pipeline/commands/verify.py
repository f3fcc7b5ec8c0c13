"""`verify`: whether an output's files are intact; imports neither Ray nor torch."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

from pipeline.config import Config
from pipeline.graph.graph import build
from pipeline.storage.artifacts import CHECKSUM_THREADS, MANIFEST, RECORDS, Artifact, ArtifactError

Files = dict[str, dict[str, Any]]


def verify_folder(uri: str, console: Console, *, quick: bool, repair: bool) -> bool:
    """Check one output by its address, such as a folder of `tokenize`; return whether it is intact.

    Args:
        uri: the folder, local or `s3://…`.
        console: gets a line for each damaged or missing file.
        quick: as for `verify`.
        repair: as for `verify`.

    Raises:
        ArtifactError: there is no such output.
    """
    output = Artifact(uri.rstrip("/"))
    if not output.is_complete() and not output.names(RECORDS):
        raise ArtifactError(
            f"{uri} is not an output folder: name one that `tokenize` wrote, or a stage and its configs"
        )
    return _verify(output, output.uri, console, quick=quick, repair=repair)


def verify(
    stage: str, configs: Sequence[Config], console: Console, *, quick: bool, repair: bool
) -> bool:
    """Check the outputs of `stage` for every config; return whether all are intact.

    Args:
        stage: its name.
        configs: the variants.
        console: gets a line for each damaged or missing file.
        quick: compare sizes only.
        repair: delete damaged files and the manifest, so that the next run writes just those files
            again. The digest stays, so no later stage runs again.

    Raises:
        ConfigError: there is no such stage.
    """
    graph = build(configs, [stage])
    good = True
    for node in graph.nodes:
        if node.stage.name != stage:
            continue
        good &= _verify(node.artifact, node.label, console, quick=quick, repair=repair)
    return good


def _verify(output: Artifact, label: str, console: Console, *, quick: bool, repair: bool) -> bool:
    damaged = _check(output, label, console, quick=quick)
    good = output.is_complete() and not damaged
    if repair and damaged:
        _delete(output, damaged)
        line = f"{label}: {len(damaged)} deleted; the command that wrote them writes them again"
        console.print(line, markup=False, soft_wrap=True)
    return good


def _check(output: Artifact, label: str, console: Console, *, quick: bool) -> list[str]:
    """Print a line for each damaged or missing file; return their names."""
    if not output.is_complete():
        console.print(f"{label}: not finished; the same command resumes it", markup=False)
    try:
        files = _expected(output)
    except (ValueError, KeyError, TypeError):
        console.print(f"{output.uri}/{MANIFEST} is damaged", markup=False, soft_wrap=True)
        return [MANIFEST]
    sizes = output.sizes()
    faults = {name: fault for name in files if (fault := _size_fault(files[name], sizes.get(name)))}
    if not quick:
        faults |= _content_faults(output, {n: files[n] for n in files if n not in faults}, console)
    for name in sorted(faults):
        console.print(f"{output.uri}/{name}: {faults[name]}", markup=False, soft_wrap=True)
    how = "sizes of" if quick else "bytes of"
    checked = f"{label}: {how} {len(files)} files checked, {len(faults)} damaged or missing"
    console.print(checked, markup=False)
    return sorted(faults)


def _expected(output: Artifact) -> Files:
    """The files of the manifest, or of the records that an unfinished stage has written."""
    if output.is_complete():
        return dict(output.read_json(MANIFEST)["files"])
    return output.recorded()


def _size_fault(expected: dict[str, Any], num_bytes: int | None) -> str:
    if num_bytes is None:
        return "is missing"
    if num_bytes != expected["bytes"]:
        return f"has {num_bytes} bytes instead of {expected['bytes']}"
    return ""


def _content_faults(output: Artifact, files: Files, console: Console) -> dict[str, str]:
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TimeRemainingColumn(),
    )
    total = sum(entry["bytes"] for entry in files.values())
    faults = {}
    with (
        Progress(*columns, console=console, transient=True) as progress,
        ThreadPoolExecutor(CHECKSUM_THREADS) as pool,
    ):
        bar = progress.add_task("reading", total=total)
        checks = {
            pool.submit(output.checksum, name, lambda count: progress.advance(bar, count)): name
            for name in files
        }
        for check in as_completed(checks):
            name = checks[check]
            try:
                if check.result()["sha256"] != files[name]["sha256"]:
                    faults[name] = "has changed since it was written"
            except OSError as error:
                faults[name] = f"cannot be read ({error})"
    return faults


def _delete(output: Artifact, damaged: Sequence[str]) -> None:
    """The manifest first: otherwise a kill in between would leave a complete output without files."""
    output.delete(MANIFEST)
    for name in damaged:
        output.delete(name)
        output.delete_record(name)
