"""The command line: run, submit, plan, verify, compare, tokenize, transcribe, resynthesize."""

import os
import sys
from pathlib import Path
from typing import Annotated, Literal

import typer
import yaml
from rich.console import Console

from pipeline.config import Cluster, Config, ConfigError
from pipeline.config.files import load_all
from pipeline.config.shipped import SHIPPED, config_files
from pipeline.errors import is_for_user
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
        help="One YAML file for each variant, or the name of a shipped config: demo, demo/kmeans",
    ),
]
Overrides = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Override a setting: --set asr.dim=256"),
]
Storage = Annotated[
    str | None, typer.Option(help="Where outputs lie: a folder, or s3://bucket/prefix")
]
Only = Annotated[
    list[str] | None,
    typer.Option("--stage", help="This stage and what it reads, nothing else; may be repeated"),
]
Audio = Annotated[list[str], typer.Argument(metavar="AUDIO...", help="Files or s3://… URIs")]


@app.command()
def run(
    configs: Configs,
    overrides: Overrides = None,
    storage: Storage = None,
    only: Only = None,
    *,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the resolved configs")] = False,
) -> None:
    """Run what is not done yet, and compare the variants."""
    loaded = _load(configs, overrides, storage)
    if dry_run:
        documents = [config.model_dump(mode="json") for config in loaded]
        typer.echo(yaml.safe_dump_all(documents, sort_keys=False, allow_unicode=True))
        return
    from pipeline.commands.run import run

    if not run(loaded, only or (), Console()):
        raise typer.Exit(1)


@app.command()
def submit(
    configs: Configs,
    overrides: Overrides = None,
    storage: Storage = None,
    only: Only = None,
    address: Annotated[
        str | None,
        typer.Option(help="Of the cluster's dashboard, http://head:8265 [RAY_API_SERVER_ADDRESS]"),
    ] = None,
    *,
    follow: Annotated[
        bool, typer.Option("--follow/--no-follow", help="Show the job's log until it ends")
    ] = True,
) -> None:
    """Run on a Ray cluster: check the configs here, send this folder and them as a job.

    The job's log is followed, and its end is the end of this command: exit code 0 or 1. Ctrl-C
    stops following; the job goes on. The plain `ray job submit` command is printed too.
    """
    from pipeline.commands.submit import RunCommand, submit

    command = RunCommand(_files(configs), _overrides(overrides, storage), only or ())
    code = submit(command, address, Console(), follow=follow)
    if code:
        raise typer.Exit(code)


@app.command()
def plan(
    configs: Configs,
    overrides: Overrides = None,
    storage: Storage = None,
    only: Only = None,
) -> None:
    """Show what is done, what would run, and how much it would write; start nothing."""
    from pipeline.commands.plan import plan

    plan(_load(configs, overrides, storage), only or (), Console())


@app.command()
def verify(
    stage: Annotated[
        str, typer.Argument(help="The name of a stage, or (without configs) a folder of `tokenize`")
    ],
    configs: Annotated[
        list[str] | None,
        typer.Argument(metavar="CONFIG...", help="The variants, as `run` takes them"),
    ] = None,
    overrides: Overrides = None,
    storage: Storage = None,
    *,
    quick: Annotated[bool, typer.Option("--quick", help="Compare sizes, read no file")] = False,
    repair: Annotated[
        bool, typer.Option("--repair", help="Take damaged files away, to be made anew")
    ] = False,
) -> None:
    """Check that a stage's files are there and have the bytes that were written."""
    from pipeline.commands.verify import verify, verify_folder

    if not configs:
        if not verify_folder(stage, Console(), quick=quick, repair=repair):
            raise typer.Exit(1)
        return
    loaded = _load(configs, overrides, storage)
    if not verify(stage, loaded, Console(), quick=quick, repair=repair):
        raise typer.Exit(1)


@app.command()
def compare(
    configs: Configs,
    overrides: Overrides = None,
    storage: Storage = None,
    output_format: Annotated[
        Literal["table", "markdown", "csv", "json"], typer.Option("--format")
    ] = "table",
) -> None:
    """Print the scores of all variants side by side, as far as they are there."""
    from pipeline.commands.compare import compare

    compare(_load(configs, overrides, storage), output_format, Console())


@app.command()
def shipped() -> None:
    """Print the folder of the shipped configs/ and cluster/."""
    typer.echo(SHIPPED)


@app.command()
def tokenize(
    tokenizer: Annotated[str, typer.Argument(help="A tokenizer's folder, or train_joint's output")],
    audio: Annotated[
        list[str], typer.Argument(metavar="AUDIO...", help="Files or folders, local or s3://…")
    ],
    output: Annotated[
        str, typer.Option(help="A Parquet file, or a folder (local or s3://…) for a Ray job")
    ] = "tokens.parquet",
    *,
    workers: Annotated[int | None, typer.Option(min=1, help="Of the job; 2 by default")] = None,
    cpus_per_worker: Annotated[
        float | None, typer.Option(min=0.01, help="Of each; 1 by default")
    ] = None,
    gpus_per_worker: Annotated[
        float | None, typer.Option(min=0, help="Of each, 0.5 for instance; 0 by default")
    ] = None,
    address: Annotated[str | None, typer.Option(help="Of a Ray cluster, or auto")] = None,
) -> None:
    """Turn audio into units: files in one process, or folders and buckets in a job on Ray.

    Where the output is a folder, a job writes shards/*.parquet there, rejects.parquet with the
    reason for every file that cannot be used, and manifest.json last. The same command goes on
    with a job that was stopped, and takes in files that have come since: whole shards are kept,
    and a file whose size has changed costs its shard. `verify FOLDER` looks for damage.
    """
    options = {
        "address": address,
        "extraction_workers": workers,
        "cpus_per_worker": cpus_per_worker,
        "gpus_per_worker": gpus_per_worker,
    }
    given = {name: value for name, value in options.items() if value is not None}
    if output.endswith(".parquet"):
        if given:
            raise ConfigError(
                f"{output} is a file, which one process writes: name a folder as --output for a "
                "job with workers"
            )
        from pipeline.commands.tokenize import tokenize

        good = tokenize(tokenizer, audio, output, Console())
    else:
        from pipeline.commands.tokenize_folder import tokenize_folder

        good = tokenize_folder(tokenizer, audio, output, Cluster.model_validate(given), Console())
    if not good:
        raise typer.Exit(1)


@app.command()
def transcribe(
    model: Annotated[str, typer.Argument(help="train_joint's output")],
    audio: Audio,
) -> None:
    """Turn audio files into text."""
    from pipeline.commands.transcribe import transcribe

    if not transcribe(model, audio, Console()):
        raise typer.Exit(1)


@app.command()
def resynthesize(
    vocoder: Annotated[str, typer.Argument(help="A vocoder's folder, or train_vocoder's output")],
    tokens: Annotated[
        list[str], typer.Argument(metavar="TOKENS...", help="What `tokenize` or a run wrote")
    ],
    speaker: Annotated[str | None, typer.Option(help="One of the vocoder's speakers")] = None,
    output: Annotated[Path, typer.Option(help="The folder to write WAV files to")] = Path(),
) -> None:
    """Turn units into speech."""
    from pipeline.commands.resynthesize import resynthesize

    resynthesize(vocoder, tokens, speaker, output, Console())


def _load(configs: list[str], overrides: list[str] | None, storage: str | None) -> list[Config]:
    return load_all(_files(configs), _overrides(overrides, storage))


def _files(configs: list[str]) -> list[Path]:
    return [file for name in configs for file in config_files(name)]


def _overrides(overrides: list[str] | None, storage: str | None) -> list[str]:
    return [*(overrides or ()), *([] if storage is None else [f"storage={storage}"])]


def main() -> None:
    """Run the command line; a user's mistake is one message, no traceback."""
    # transformers draws a bar for every small file that it loads or saves.
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    try:
        app()
    except Exception as error:
        if not is_for_user(error) and not isinstance(error, OSError):
            raise
        Console(stderr=True).print(
            redact(str(error)), style="bold red", markup=False, soft_wrap=True
        )
        sys.exit(1)


if __name__ == "__main__":
    main()
