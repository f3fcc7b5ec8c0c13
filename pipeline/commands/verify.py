"""`verify`: whether an output's files are intact; imports neither Ray nor torch."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

from pipeline.config import Config, ConfigError
from pipeline.errors import is_for_user
from pipeline.graph.graph import Graph, Node, build
from pipeline.storage.artifacts import CHECKSUM_THREADS, MANIFEST, RECORDS, Artifact, ArtifactError

Files = dict[str, dict[str, Any]]


def verify(
    name: str, configs: Sequence[Config], console: Console, *, quick: bool, repair: bool
) -> bool:
    """Check the outputs of a stage for every config; return whether all is well.

    That is, whether all are finished and intact; with `repair`, whether nothing damaged is left. What
    was deleted is then made by the command that wrote it, and until then the output is not finished.

    Args:
        name: the stage; without configs, a folder that `tokenize` wrote.
        configs: the variants.
        console: gets a line for each damaged or missing file.
        quick: compare sizes only.
        repair: delete damaged files and the manifest, so that the next run writes just those files
            again. The digest stays, so no later stage runs again, except after a training: without
            checkpoints it may end with other weights.

    Raises:
        ConfigError: there is no such stage, or the configs do not have it.
        ArtifactError: there is no such folder.
        OSError: the storage failed, or a damaged file cannot be deleted.
    """
    nodes = build(configs, [name]).nodes if configs else ()
    named = [node for node in nodes if node.stage.name == name]
    if configs and not named:
        variants = ", ".join(config.variant for config in configs)
        raise ConfigError(f"{name} is no part of {variants}: name a stage that `plan` lists")
    outputs = {node.label: node.artifact for node in named}
    if not configs:
        outputs = {name.rstrip("/"): _folder(name)}
    good = [
        _verify(output, label, console, quick=quick, repair=repair)
        for label, output in outputs.items()
    ]
    if repair and named:
        _reopen_readers(build(configs), named, console)
    return all(good)


def _folder(uri: str) -> Artifact:
    output = Artifact(uri.rstrip("/"))
    if not output.is_complete() and not output.names(RECORDS):
        raise ArtifactError(
            f"{uri} is not an output folder: name one that `tokenize` wrote, or a stage and its configs"
        )
    return output


def _verify(output: Artifact, label: str, console: Console, *, quick: bool, repair: bool) -> bool:
    damaged = _check(output, label, console, quick=quick)
    if not repair:
        return output.is_complete() and not damaged
    if damaged:
        _delete(output, damaged)
        line = f"{label}: {len(damaged)} deleted; the command that wrote them writes them again"
        console.print(line, markup=False, soft_wrap=True)
    return True


def _check(output: Artifact, label: str, console: Console, *, quick: bool) -> list[str]:
    """Print a line for each damaged or missing file; return their names."""
    complete = output.is_complete()
    if not complete:
        line = f"{label}: not finished; the command that writes it resumes it"
        console.print(line, markup=False, soft_wrap=True)
    try:
        # An unfinished output has records of the files that are written.
        files = dict(output.read_json(MANIFEST)["files"]) if complete else output.recorded()
    except (ArtifactError, ValueError, KeyError, TypeError):
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
    console.print(checked, markup=False, soft_wrap=True)
    return sorted(faults)


def _size_fault(expected: dict[str, Any], num_bytes: int | None) -> str:
    if num_bytes is None:
        return "is missing"
    if num_bytes != expected["bytes"]:
        return f"has {num_bytes} bytes instead of {expected['bytes']}"
    return ""


def _content_faults(output: Artifact, files: Files, console: Console) -> dict[str, str]:
    columns = (TextColumn("reading"), BarColumn(), DownloadColumn(), TimeRemainingColumn())
    with (
        Progress(*columns, console=console, transient=True) as progress,
        ThreadPoolExecutor(CHECKSUM_THREADS) as pool,
    ):
        bar = progress.add_task("", total=sum(entry["bytes"] for entry in files.values()))

        def fault(name: str) -> str:
            try:
                read = output.checksum(name, lambda count: progress.advance(bar, count))
            except OSError as error:
                if is_for_user(
                    error
                ):  # the store failed, not the file, which a repair would delete
                    raise
                return f"cannot be read ({error})"
            same = read["sha256"] == files[name]["sha256"]
            return "" if same else "has changed since it was written"

        faults = dict(zip(files, pool.map(fault, files), strict=True))
    return {name: reason for name, reason in faults.items() if reason}


def _reopen_readers(graph: Graph, repaired: Sequence[Node], console: Console) -> None:
    """Let what was made from a training that runs anew be made again."""
    stale = {
        node.key
        for node in repaired
        if node.stage.temporary(node.config) and not node.artifact.is_complete()
    }
    for node in graph.nodes:
        if stale.isdisjoint(node.inputs.items()):
            continue
        stale.add(node.key)
        if node.artifact.is_complete():
            node.artifact.delete(MANIFEST)
            line = f"{node.label}: to be made again, because the new training may end with other weights"
            console.print(line, markup=False, soft_wrap=True)


def _delete(output: Artifact, damaged: Sequence[str]) -> None:
    """The manifest first: otherwise a kill in between would leave a complete output without files."""
    output.delete(MANIFEST)
    for name in damaged:
        output.delete(name)
        output.delete_record(name)
