"""The commands that use trained models, and make language models for them."""

from typing import Annotated, Literal

import typer
from rich.console import Console

from pipeline.config import AsrEvaluation, Cluster, ConfigError, TextLm
from pipeline.config.files import from_options, from_overrides
from pipeline.config.yaml_file import Node

app = typer.Typer()
# A folder is hardly ever called so: who gives such a name to `tokenize` expects a file.
_OTHER_TABLES = (".csv", ".json", ".jsonl", ".npy", ".npz", ".pq", ".pt", ".tsv", ".txt")


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
    from pipeline.commands.find_model import require_one_model

    require_one_model(tokenizer, audio, "tokenizer")
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

        succeeded = tokenize(tokenizer, audio, output, console())
    elif output.lower().endswith(_OTHER_TABLES):
        raise ConfigError(
            f"{output}: units are written as Parquet: give a file that ends in .parquet as --output, or "
            "a folder for a job on Ray"
        )
    else:
        from pipeline.commands.tokenize_folder import tokenize_folder

        cluster = from_options(Cluster, given)
        succeeded = tokenize_folder(tokenizer, audio, output, cluster, console())
    exit_unless(succeeded)


@app.command()
def transcribe(
    model: Annotated[str, typer.Argument(help="An output of train_joint")],
    audio: Annotated[
        list[str], typer.Argument(metavar="AUDIO...", help="Files or folders, local or s3://…")
    ],
    output: Annotated[
        str | None,
        typer.Option(help="A file; with srt a folder, or x.srt for one file; default: print"),
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
        typer.Option(help="Read mixtures of units with this temperature; default: nearest units"),
    ] = None,
    language_model: Annotated[
        str | None, typer.Option(help="An ARPA file, or what asr_evaluation.language_model takes")
    ] = None,
    language_model_level: Annotated[
        Literal["words", "pieces"] | None,
        typer.Option(help="What an n-gram model counts; default: words"),
    ] = None,
    language_model_weight: Annotated[
        float | None, typer.Option(min=0, help="Weight of the language model; default: 0.5")
    ] = None,
    length_bonus: Annotated[
        float | None, typer.Option(min=0, help="What each piece adds to a score; default: 0")
    ] = None,
) -> None:
    """Turn audio into text, with the time of each word in all formats but text."""
    from pipeline.commands.find_model import require_one_model
    from pipeline.commands.transcribe import Reading, transcribe
    from pipeline.commands.transcript_files import Destination

    require_one_model(model, audio, "asr")
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
    consoles = {"console": console(), "messages": console(stderr=True)}
    exit_unless(transcribe(model, audio, destination, reading, **consoles))


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
    length: Annotated[
        int, typer.Option(min=1, max=10, help="Words (or pieces) in the longest n-grams")
    ] = 3,
    split: Annotated[str, typer.Option(help="The split to read of a prepared corpus")] = "train",
    pieces_of: Annotated[
        str | None,
        typer.Option(help="Count the pieces of text of this output of train_joint; default: words"),
    ] = None,
) -> None:
    """Make an n-gram language model from texts, for asr_evaluation.language_model and `transcribe`."""
    from pipeline.commands.make_arpa import make_arpa

    make_arpa(texts, output, console(), length=length, split=split, model=pieces_of)


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
        str, typer.Option(help="An output of train_joint, whose pieces of text the model predicts")
    ],
    output: Annotated[str, typer.Option(help="The folder for the model")],
    overrides: Annotated[
        list[str] | None,
        typer.Option(
            "--set", metavar="KEY=VALUE", help="Override a setting: --set training.epochs=40"
        ),
    ] = None,
    *,
    split: Annotated[str, typer.Option(help="The split to read of a prepared corpus")] = "train",
    valid: Annotated[
        list[str] | None,
        typer.Option(
            metavar="TEXT", help="Texts that choose the epoch; default: a part of the others"
        ),
    ] = None,
    valid_split: Annotated[
        str, typer.Option(help="The split to read of a prepared corpus in --valid")
    ] = "valid",
) -> None:
    """Train a neural language model of texts, for asr_evaluation.language_model and `transcribe`."""
    from pipeline.commands.train_text_lm import Texts, train_text_lm

    settings = from_overrides(TextLm, overrides or ())
    train_text_lm(
        Texts(texts, split, valid or (), valid_split), output, pieces_of, settings, console()
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
    voice: Annotated[
        str | None,
        typer.Option(help="Audio of anybody who is to speak, for vocoders with a speaker encoder"),
    ] = None,
    output: Annotated[str, typer.Option(help="The folder for the WAV files")] = ".",
) -> None:
    """Turn units into speech."""
    from pipeline.commands.find_model import require_one_model
    from pipeline.commands.resynthesize import Speaker, resynthesize

    require_one_model(vocoder, tokens, "vocoder")
    resynthesize(vocoder, tokens, Speaker(speaker, voice), output, console())


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
    seconds: Annotated[float, typer.Option(min=0, max=3600, help="Seconds to add at most")] = 5.0,
    prompt_seconds: Annotated[
        float | None, typer.Option(min=0, help="Seconds of each utterance to keep; default: all")
    ] = None,
    temperature: Annotated[
        float, typer.Option(min=1e-3, max=1e3, help="Below 1: likelier units only")
    ] = 1.0,
    seed: Annotated[int, typer.Option(min=0, help="Another seed draws other units")] = 0,
) -> None:
    """Let a language model of units go on where utterances end; `resynthesize` speaks the result."""
    from pipeline.commands.continue_units import Continuation, continue_units
    from pipeline.commands.find_model import require_one_model

    require_one_model(model, tokens, "unit_lm")
    wanted = Continuation(seconds, prompt_seconds, temperature, seed)
    continue_units(model, tokens, wanted, output, console())


def _given(options: dict[str, Node]) -> dict[str, Node]:
    return {name: node for name, node in options.items() if node.value is not None}


def console(*, stderr: bool = False) -> Console:
    """A console that prints names as they are: rich takes `:cd:` in one for a picture."""
    return Console(stderr=stderr, emoji=False)


def exit_unless(succeeded: bool) -> None:  # noqa: FBT001
    if not succeeded:
        raise typer.Exit(1)
