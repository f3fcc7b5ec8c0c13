"""The command line, `dkm` or `python -m pipeline`: one function for each command.

Those that use trained models are in `model_commands`.
"""

import io
import json
import os
import sys
from pathlib import Path
from typing import Annotated, Literal

import typer

from pipeline.config import Config, Tracking
from pipeline.config.files import load_all
from pipeline.config.shipped import SHIPPED, config_files
from pipeline.config.yaml_file import write_yaml
from pipeline.errors import is_for_user
from pipeline.model_commands import app as model_commands
from pipeline.model_commands import console, exit_unless
from pipeline.redaction import redact

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Differentiable k-means for discrete speech tokens, from audio to a trained tokenizer.",
)

Configs = Annotated[
    list[str],
    typer.Argument(
        metavar="CONFIG...",
        help="YAML files, one for each variant, or names of shipped configs: demo, demo/kmeans",
    ),
]
OptionalConfigs = Annotated[
    list[str] | None, typer.Argument(metavar="[CONFIG...]", help="Configs, as for `run`")
]
Overrides = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Override a setting: --set asr.dim=256"),
]
Storage = Annotated[
    str | None, typer.Option(help="Where to store outputs: a folder, or s3://bucket/prefix")
]
Only = Annotated[
    list[str] | None,
    typer.Option("--stage", help="Only this stage and the stages it reads; may be repeated"),
]


@app.command()
def run(
    configs: Configs,
    overrides: Overrides = None,
    storage: Storage = None,
    only: Only = None,
    *,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print the resolved configs, run nothing")
    ] = False,
) -> None:
    """Run every stage that is not done yet, then compare the variants."""
    loaded = _load(configs, overrides, storage)
    if dry_run:
        documents = [config.model_dump(mode="json") for config in loaded]
        typer.echo(write_yaml(documents))
        return
    from pipeline.commands.run import run

    exit_unless(run(loaded, only or (), console()))


@app.command()
def submit(
    configs: Configs,
    overrides: Overrides = None,
    storage: Storage = None,
    only: Only = None,
    address: Annotated[
        str | None,
        typer.Option(
            envvar=["RAY_API_SERVER_ADDRESS", "RAY_ADDRESS"],
            help="The cluster's dashboard, http://head:8265",
        ),
    ] = None,
    *,
    send: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="PATH", help="Send this file or folder although it looks like a secret"
        ),
    ] = None,
    follow: Annotated[
        bool, typer.Option("--follow/--no-follow", help="Show the log until the job ends")
    ] = True,
) -> None:
    """Check the configs here, then run them as a job on a Ray cluster.

    The current folder is sent with the job, without files that look like secrets. The command
    shows the job's log and exits with its exit code when the job ends. Ctrl-C stops showing the
    log; the job continues.
    """
    from pipeline.commands.submit import RunCommand, submit

    command = RunCommand(_files(configs), _overrides(overrides, storage), only or (), send or ())
    raise typer.Exit(submit(command, address, console(), follow=follow))


@app.command()
def plan(
    configs: Configs, overrides: Overrides = None, storage: Storage = None, only: Only = None
) -> None:
    """Show what is done, what would run and how much it would write, without running anything."""
    from pipeline.commands.plan import plan

    plan(_load(configs, overrides, storage), only or (), console())


@app.command()
def verify(
    stage: Annotated[
        str, typer.Argument(help="A stage; or, without configs, a folder that `tokenize` wrote")
    ],
    configs: OptionalConfigs = None,
    overrides: Overrides = None,
    storage: Storage = None,
    *,
    quick: Annotated[bool, typer.Option("--quick", help="Compare file sizes only")] = False,
    repair: Annotated[
        bool, typer.Option("--repair", help="Delete damaged files; the next run writes them again")
    ] = False,
) -> None:
    """Check that a stage's files exist and hold the bytes that were written.

    The exit code is 0 if all are finished and intact, otherwise 1. With --repair it is 0 too if
    damage was found: what is damaged is deleted, and the command that wrote it writes it again.
    """
    from pipeline.commands.verify import verify

    loaded = _load(configs, overrides, storage) if configs else []
    exit_unless(verify(stage, loaded, console(), quick=quick, repair=repair))


@app.command()
def compare(
    configs: Configs,
    overrides: Overrides = None,
    storage: Storage = None,
    output_format: Annotated[
        Literal["table", "markdown", "csv", "json"], typer.Option("--format", help="How to print")
    ] = "table",
    against: Annotated[
        str | None,
        typer.Option(metavar="VARIANT", help="The baseline of the comparison; default: kmeans"),
    ] = None,
    *,
    show_all: Annotated[
        bool, typer.Option("--all", help="All scores in the table and its Markdown")
    ] = False,
) -> None:
    """Print the scores of all variants side by side, with intervals of the word error rates.

    A score that does not exist yet is a dash, or left out of JSON and CSV, which hold all scores.
    """
    from pipeline.commands.compare import compare

    loaded = _load(configs, overrides, storage)
    compare(loaded, output_format, console(), against=against, show_all=show_all)


@app.command()
def report(
    configs: Configs,
    overrides: Overrides = None,
    storage: Storage = None,
    output: Annotated[
        str | None,
        typer.Option(metavar="FILE", help="Where to write it; default: report.html in the storage"),
    ] = None,
) -> None:
    """Write one HTML page with what the storage holds: scores, curves, units, audio, settings.

    It opens from disk, without network. What is not computed yet, or has failed, is named.
    """
    from pipeline.commands.report import report

    report(_load(configs, overrides, storage), output, console())


@app.command()
def track(
    configs: Configs,
    overrides: Overrides = None,
    storage: Storage = None,
    uri: Annotated[
        str,
        typer.Option(help="An MLflow server; default: as for `run`"),
    ] = "",
) -> None:
    """Publish to MLflow what the storage holds; `run` does so while it runs.

    All comes from the storage: runs, curves, figures, audio, scores and tokenizers. What MLflow has
    already is left as it is, so the command may be given again, and to another server.
    """
    from pipeline.commands.track import track

    exit_unless(track(_load(configs, overrides, storage), uri, console()))


@app.command()
def watch(configs: Configs, overrides: Overrides = None, storage: Storage = None) -> None:
    """Show a run as its stages go on, whichever process or job does it, until it ends.

    All comes from the storage. Ctrl-C ends the display, not the run.
    """
    from pipeline.commands.watch import watch

    exit_unless(watch(_load(configs, overrides, storage), console()))


@app.command()
def tune(
    configs: Configs,
    space: Annotated[
        Path, typer.Option(help="A YAML file of keys with their choices, or {low: …, high: …}")
    ],
    trials: Annotated[
        int,
        typer.Option(min=1, help="Trials of each variant; the first is the config as it stands"),
    ],
    overrides: Overrides = None,
    storage: Storage = None,
    *,
    seed: Annotated[
        int, typer.Option(min=0, max=2**32 - 1, help="Another seed draws other settings")
    ] = 0,
    write: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="Write each config with its best settings here"),
    ] = None,
) -> None:
    """Choose settings on the validation split: the same number of trials for each variant.

    Settings are drawn at random, the same for all variants, and ranked by the word error rate of
    greedy CTC on the validation split. No test split is used. A stopped command resumes when it is
    given again.
    """
    from pipeline.commands.tune import Tuning, tune

    tuning = Tuning(_files(configs), _overrides(overrides, storage), space, trials, seed, write)
    exit_unless(tune(tuning, console()))


@app.command()
def shipped() -> None:
    """Print the folder that holds the shipped configs/ and cluster/."""
    typer.echo(SHIPPED)


app.add_typer(model_commands)


@app.command()
def ui(
    configs: OptionalConfigs = None,
    storage: Storage = None,
    port: Annotated[int, typer.Option(min=1, max=65535, help="The local server's port")] = 5000,
    *,
    opens: Annotated[bool, typer.Option("--open/--no-open", help="Open it in a browser")] = True,
) -> None:
    """Open MLflow on the comparison of the variants.

    It shows the experiment of the configs, or everything in --storage (default: runs). The server
    that it starts listens on this machine only; if MLFLOW_TRACKING_URI names a server, that address
    is shown instead.
    """
    from pipeline.commands.ui import ui

    tracking, experiment = Tracking(), None
    if configs:
        first = _load(configs, None, storage)[0]
        tracking, storage, experiment = first.tracking, first.storage, first.tracking.experiment
    ui(tracking, storage or "runs", experiment, port, console(), opens=opens)


def _load(configs: list[str], overrides: list[str] | None, storage: str | None) -> list[Config]:
    return load_all(_files(configs), _overrides(overrides, storage))


def _files(configs: list[str]) -> list[Path]:
    return [file for name in configs for file in config_files(name)]


def _overrides(overrides: list[str] | None, storage: str | None) -> list[str]:
    return [
        *(overrides or ()),
        *([] if storage is None else [f"storage={json.dumps(storage, ensure_ascii=False)}"]),
    ]


def main() -> None:
    """Run the command line; a user's mistake ends in one message without a traceback."""
    # A name that the console cannot print must not end the work that it belongs to.
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    # transformers shows a progress bar for every small file that it loads or saves.
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    # A config may name modules in the current folder: `dkm` finds them as `python -m` does.
    sys.path.insert(0, str(Path.cwd()))
    try:
        app()
    except Exception as error:
        if not is_for_user(error) and not isinstance(error, OSError):
            raise
        console(stderr=True).print(
            redact(str(error)), style="bold red", markup=False, soft_wrap=True
        )
        sys.exit(1)


if __name__ == "__main__":
    main()
