"""`report`: the page that shows what configs have given, as one HTML file."""

from collections.abc import Sequence

from rich.console import Console

from pipeline.commands.compare import compared
from pipeline.config import Config, ConfigError
from pipeline.graph.graph import Graph, build
from pipeline.metrics.comparison import Comparison
from pipeline.redaction import redact
from pipeline.report.outputs import outputs_of
from pipeline.storage.artifacts import Artifact, ArtifactError
from pipeline.storage.folders import Folder
from pipeline.storage.writable import require_writable

REPORT = "report.html"
_HEAD_BYTES = 2000


def report(configs: Sequence[Config], output: str | None, console: Console) -> None:
    """Write the page to the file `output`, or else into the storage.

    Raises:
        ConfigError: `output` is a folder.
        UnwritableError: the page cannot be written, which is found before any work.
    """
    if output is not None and Folder.at(output).is_folder():
        raise ConfigError(
            f"{output} is a folder: name a file, such as {output.rstrip('/')}/{REPORT}"
        )
    require_writable(configs[0].storage if output is None else output, as_file=output is not None)
    graph = build(configs)
    content = _content(graph, configs, compared(graph, configs))
    if output is None:
        folder, name = Folder.at(configs[0].storage), REPORT
    else:
        folder, name = Folder.around(output)
    _write(content, folder, name, console)


def is_reported(graph: Graph, storage: str) -> bool:
    """Whether the page in the storage is of these variants and outputs. To make it takes longer than
    all else of a run that has nothing to compute.
    """
    try:
        with Artifact(storage).read(REPORT) as file:
            head = file.read(_HEAD_BYTES)
    except ArtifactError:
        return False
    return f'name="outputs" content="{outputs_of(graph)}"'.encode() in head


def add_report(
    graph: Graph, configs: Sequence[Config], found: Comparison, console: Console
) -> None:
    """Write the page, with the scores `found`, into the storage. One that cannot be made is a warning."""
    try:
        content = _content(graph, configs, found)
        _write(content, Folder.at(configs[0].storage), REPORT, console)
    except Exception as error:  # noqa: BLE001 - what was computed is worth more than its page
        message = f"No page was made: {type(error).__name__}: {redact(str(error))}"
        console.print(message, style="yellow", markup=False, soft_wrap=True)


def _content(graph: Graph, configs: Sequence[Config], found: Comparison) -> bytes:
    from pipeline.report import page  # imports matplotlib, which takes a second

    shown = page.page(graph, configs, found)
    return page.render(shown).encode(errors="backslashreplace")


def _write(content: bytes, folder: Folder, name: str, console: Console) -> None:
    with Artifact(folder.uri).write(name) as file:
        file.write(content)
    console.print(f"Page: {redact(folder.address(name))}", markup=False, soft_wrap=True)
