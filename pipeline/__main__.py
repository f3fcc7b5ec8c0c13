"""The command line, `dkm` or `python -m pipeline`: one function for each command."""

import io
import json
import os
import sys
from pathlib import Path
from typing import Annotated, Literal

import typer
from rich.console import Console

from pipeline.config import AsrEvaluation, Cluster, Config, ConfigError, TextLm, Tracking
from pipeline.config.files import from_options, from_overrides, load_all
from pipeline.config.shipped import SHIPPED, config_files
from pipeline.config.yaml_file import Node, write_yaml
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

    _exit_unless(run(loaded, only or (), _console()))


@app.command()
def submit(
    configs: Configs,
    overrides: Overrides = None,
    storage: Storage = None,
    only: Only = None,
    address: Annotated[
        str | None,
        typer.Option(
            help="The cluster's dashboard, http://head:8265; default: RAY_API_SERVER_ADDRESS"
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
    shows the job's log and exits with 0 or 1 when the job ends. Ctrl-C stops showing the log; the
    job continues. The equivalent `ray job submit` command is printed too.
    """
    from pipeline.commands.submit import RunCommand, submit

    command = RunCommand(_files(configs), _overrides(overrides, storage), only or (), send or ())
    raise typer.Exit(submit(command, address, _console(), follow=follow))


@app.command()
def plan(
    configs: Configs, overrides: Overrides = None, storage: Storage = None, only: Only = None
) -> None:
    """Show what is done, what would run and how much it would write, without running anything."""
    from pipeline.commands.plan import plan

    plan(_load(configs, overrides, storage), only or (), _console())


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
    _exit_unless(verify(stage, loaded, _console(), quick=quick, repair=repair))


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
        typer.Option(metavar="VARIANT", help="What the others are compared with [default: kmeans]"),
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
    compare(loaded, output_format, _console(), against=against, show_all=show_all)


@app.command()
def tune(
    configs: Configs,
    space: Annotated[
        Path, typer.Option(help="A YAML file of keys with their choices, or {low: …, high: …}")
    ],
    trials: Annotated[
        int, typer.Option(min=1, help="Of each variant; the first is the config as it stands")
    ],
    overrides: Overrides = None,
    storage: Storage = None,
    *,
    seed: Annotated[int, typer.Option(min=0, max=2**32 - 1, help="Draw other settings")] = 0,
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
    _exit_unless(tune(tuning, _console()))


@app.command()
def shipped() -> None:
    """Print the folder that holds the shipped configs/ and cluster/."""
    typer.echo(SHIPPED)


@app.command()
def tokenize(
    tokenizer: Annotated[
        str, typer.Argument(help="A tokenizer's folder, or an output of train_joint")
    ],
    audio: Annotated[
        list[str], typer.Argument(metavar="AUDIO...", help="Files or folders, local or s3://…")
    ],
    output: Annotated[
        str, typer.Option(help="A Parquet file; or, for a Ray job, a folder (local or s3://…)")
    ] = "tokens.parquet",
    *,
    workers: Annotated[int | None, typer.Option(min=1, help="Default: 2")] = None,
    cpus_per_worker: Annotated[float | None, typer.Option(min=0.01, help="Default: 1")] = None,
    gpus_per_worker: Annotated[
        float | None, typer.Option(min=0, help="May be a fraction, such as 0.5; default: 0")
    ] = None,
    address: Annotated[
        str | None, typer.Option(help="A Ray cluster to join, or auto; default: start Ray here")
    ] = None,
) -> None:
    """Turn audio into units: files in one process, folders and buckets in a job on Ray.

    If the output is a folder, the job writes shards/*.parquet, rejects.parquet with a reason for
    each file that cannot be used, and manifest.json last. Run the same command again to resume a
    stopped job, or when files have come, changed or gone: only new and changed ones are computed,
    and the units of those that are gone are removed. `verify FOLDER` checks for damage.
    """
    options = {
        "address": Node(address, f"--address {address}"),
        "extraction_workers": Node(workers, f"--workers {workers}"),
        "cpus_per_worker": Node(cpus_per_worker, f"--cpus-per-worker {cpus_per_worker}"),
        "gpus_per_worker": Node(gpus_per_worker, f"--gpus-per-worker {gpus_per_worker}"),
    }
    given = _given(options)
    if output.endswith(".parquet"):
        if given:
            raise ConfigError(
                f"{output} is a file, which one process writes: give a folder as --output to run "
                "a job with workers"
            )
        from pipeline.commands.tokenize import tokenize

        succeeded = tokenize(tokenizer, audio, output, _console())
    else:
        from pipeline.commands.tokenize_folder import tokenize_folder

        cluster = from_options(Cluster, given)
        succeeded = tokenize_folder(tokenizer, audio, output, cluster, _console())
    _exit_unless(succeeded)


@app.command()
def transcribe(
    model: Annotated[str, typer.Argument(help="An output of train_joint")],
    audio: Annotated[
        list[str], typer.Argument(metavar="AUDIO...", help="Files or folders, local or s3://…")
    ],
    output: Annotated[
        str | None,
        typer.Option(help="A file; with srt a folder, or x.srt for one file [default: print]"),
    ] = None,
    output_format: Annotated[
        Literal["text", "json", "ctm", "srt"],
        typer.Option("--format", help="json: one object a line, with times of words"),
    ] = "text",
    *,
    window_seconds: Annotated[
        float, typer.Option(min=2, max=3600, help="Longer audio is read in overlapping windows")
    ] = 30.0,
    beam_size: Annotated[
        int | None, typer.Option(min=1, help="Hypotheses that the search keeps; default: 8")
    ] = None,
    soft_tau: Annotated[
        float | None,
        typer.Option(help="Read mixtures of units with this temperature [default: nearest units]"),
    ] = None,
    language_model: Annotated[
        str | None, typer.Option(help="An ARPA file, or what asr_evaluation.language_model takes")
    ] = None,
    language_model_level: Annotated[
        Literal["words", "pieces"] | None, typer.Option(help="Of an n-gram model; default: words")
    ] = None,
    language_model_weight: Annotated[
        float | None, typer.Option(min=0, help="Of the language model; default: 0.5")
    ] = None,
    length_bonus: Annotated[
        float | None, typer.Option(min=0, help="What each piece adds to a score; default: 0")
    ] = None,
) -> None:
    """Turn audio into text, with the time of each word in all formats but text."""
    from pipeline.commands.transcribe import Reading, transcribe
    from pipeline.commands.transcript_files import Destination

    model_options = _given(
        {
            "path": Node(language_model, f"--language-model {language_model}"),
            "level": Node(language_model_level, f"--language-model-level {language_model_level}"),
            "weight": Node(
                language_model_weight, f"--language-model-weight {language_model_weight}"
            ),
        }
    )
    options = {
        "beam_size": Node(beam_size, f"--beam-size {beam_size}"),
        "soft_tau": Node(soft_tau, f"--soft-tau {soft_tau}"),
        "length_bonus": Node(length_bonus, f"--length-bonus {length_bonus}"),
        "language_model": Node(model_options or None, "the command line"),
    }
    reading = Reading.of(window_seconds, from_options(AsrEvaluation, _given(options)))
    destination = Destination(output, output_format)
    consoles = {"console": _console(), "messages": _console(stderr=True)}
    _exit_unless(transcribe(model, audio, destination, reading, **consoles))


@app.command()
def make_arpa(
    texts: Annotated[
        list[str],
        typer.Argument(
            metavar="TEXT...",
            help="Outputs of prepare_corpus, or files with a sentence on each line",
        ),
    ],
    output: Annotated[str, typer.Option(help="The ARPA file")],
    length: Annotated[int, typer.Option(min=1, max=10, help="Of the longest n-grams")] = 3,
    split: Annotated[str, typer.Option(help="Of a prepared corpus")] = "train",
    pieces_of: Annotated[
        str | None,
        typer.Option(
            help="Of the pieces of text of this output of train_joint [default: of words]"
        ),
    ] = None,
) -> None:
    """Make an n-gram language model from texts, for asr_evaluation.language_model and `transcribe`."""
    from pipeline.commands.make_arpa import make_arpa

    make_arpa(texts, output, _console(), length=length, split=split, model=pieces_of)


@app.command()
def train_text_lm(
    texts: Annotated[
        list[str],
        typer.Argument(
            metavar="TEXT...",
            help="Outputs of prepare_corpus, or files with a sentence on each line",
        ),
    ],
    pieces_of: Annotated[
        str, typer.Option(help="An output of train_joint: the model is of its pieces of text")
    ],
    output: Annotated[str, typer.Option(help="The folder for the model")],
    overrides: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="--set training.epochs=40"),
    ] = None,
    *,
    split: Annotated[str, typer.Option(help="Of a prepared corpus")] = "train",
    valid: Annotated[
        list[str] | None,
        typer.Option(
            metavar="TEXT", help="Texts that choose the epoch [default: some of the others]"
        ),
    ] = None,
    valid_split: Annotated[str, typer.Option(help="Of a prepared corpus in --valid")] = "valid",
) -> None:
    """Train a neural language model of texts, for asr_evaluation.language_model and `transcribe`."""
    from pipeline.commands.train_text_lm import Texts, train_text_lm

    settings = from_overrides(TextLm, overrides or ())
    train_text_lm(
        Texts(texts, split, valid or (), valid_split), output, pieces_of, settings, _console()
    )


@app.command()
def resynthesize(
    vocoder: Annotated[
        str, typer.Argument(help="A vocoder's folder, or an output of train_vocoder")
    ],
    tokens: Annotated[
        list[str],
        typer.Argument(
            metavar="TOKENS...", help="Files or folders of units, from `tokenize` or a run"
        ),
    ],
    speaker: Annotated[str | None, typer.Option(help="One of the vocoder's speakers")] = None,
    output: Annotated[str, typer.Option(help="The folder for the WAV files")] = ".",
) -> None:
    """Turn units into speech."""
    from pipeline.commands.resynthesize import resynthesize

    resynthesize(vocoder, tokens, speaker, output, _console())


@app.command("continue")
def continue_units(
    model: Annotated[
        str, typer.Argument(help="A language model's folder, or an output of train_unit_lm")
    ],
    tokens: Annotated[
        list[str],
        typer.Argument(
            metavar="TOKENS...", help="Files or folders of units, from `tokenize` or a run"
        ),
    ],
    output: Annotated[str, typer.Option(help="A Parquet file")] = "continued.parquet",
    *,
    seconds: Annotated[float, typer.Option(min=0, max=3600, help="How much may follow")] = 5.0,
    prompt_seconds: Annotated[
        float | None, typer.Option(min=0, help="How much of an utterance to keep; default: all")
    ] = None,
    temperature: Annotated[
        float, typer.Option(min=1e-3, max=1e3, help="Below 1: likelier units only")
    ] = 1.0,
    seed: Annotated[int, typer.Option(min=0, help="Another seed draws other units")] = 0,
) -> None:
    """Let a language model of units go on where utterances end; `resynthesize` speaks the result."""
    from pipeline.commands.continue_units import Continuation, continue_units

    wanted = Continuation(seconds, prompt_seconds, temperature, seed)
    continue_units(model, tokens, wanted, output, _console())


@app.command()
def ui(
    configs: OptionalConfigs = None,
    storage: Storage = None,
    port: Annotated[int, typer.Option(min=1, max=65535, help="The local server's port")] = 5000,
    *,
    opens: Annotated[bool, typer.Option("--open/--no-open", help="Open it in a browser")] = True,
) -> None:
    """Open MLflow on the comparison of the variants.

    It shows the experiment of the configs, or everything in --storage (default: runs). The server that it starts
    listens on this machine only; if MLFLOW_TRACKING_URI names a server, that address is shown.
    """
    from pipeline.commands.ui import ui

    tracking, experiment = Tracking(), None
    if configs:
        first = _load(configs, None, storage)[0]
        tracking, storage, experiment = first.tracking, first.storage, first.tracking.experiment
    ui(tracking, storage or "runs", experiment, port, _console(), opens=opens)


def _given(options: dict[str, Node]) -> dict[str, Node]:
    return {name: node for name, node in options.items() if node.value is not None}


def _load(configs: list[str], overrides: list[str] | None, storage: str | None) -> list[Config]:
    return load_all(_files(configs), _overrides(overrides, storage))


def _files(configs: list[str]) -> list[Path]:
    return [file for name in configs for file in config_files(name)]


def _overrides(overrides: list[str] | None, storage: str | None) -> list[str]:
    return [
        *(overrides or ()),
        *([] if storage is None else [f"storage={json.dumps(storage, ensure_ascii=False)}"]),
    ]


def _console(*, stderr: bool = False) -> Console:
    """A console that prints names as they are: rich takes `:cd:` in one for a picture."""
    return Console(stderr=stderr, emoji=False)


def _exit_unless(succeeded: bool) -> None:  # noqa: FBT001
    if not succeeded:
        raise typer.Exit(1)


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
        _console(stderr=True).print(
            redact(str(error)), style="bold red", markup=False, soft_wrap=True
        )
        sys.exit(1)


if __name__ == "__main__":
    main()
