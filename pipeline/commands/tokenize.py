"""`tokenize`: units of audio files, by a trained tokenizer."""

import signal
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pyarrow as pa
import torch
from rich.console import Console

from pipeline.commands.find_model import load_model
from pipeline.commands.named_audio import NamedAudio
from pipeline.commands.stopped_output import place_of
from pipeline.commands.waveforms import readable
from pipeline.config import ConfigError
from pipeline.storage import table_schemas
from pipeline.storage.artifacts import Artifact
from pipeline.storage.folders import Folder, printable
from pipeline.storage.writable import require_writable
from pipeline.tokenizer.identity import TOKENIZER, tokenizer_digest
from pipeline.tokenizer.unit_tokenizer import UnitTokenizer


def tokenize(model: str, audio: Sequence[str], output: str, console: Console) -> bool:
    """Write the units of each file to the Parquet file `output`; return whether all could be read.

    Whatever ends the work early, the units made until then are written: beside an older `output`,
    which is replaced by complete results only.

    Raises:
        ConfigError: there is no such tokenizer, or a folder among the files.
        UnwritableError: `output` cannot be written, which is found before any work.
    """
    require_writable(output, as_file=True)
    for uri in audio:
        if Folder.at(uri).is_folder():
            raise ConfigError(
                f"{uri} is a folder: its units are written to a folder too, so name one, such as "
                "--output tokens"
            )
    tokenizer, digest = load_model(
        model,
        "tokenizer",
        lambda folder: (UnitTokenizer.from_pretrained(folder), tokenizer_digest(folder)),
    )
    tokenizer.place("cuda" if torch.cuda.is_available() else "cpu")
    ids = NamedAudio.of(audio).ids
    rows: list[dict[str, Any]] = []
    complete = False
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        for row in _rows(tokenizer, ids, console):
            rows.append(row)  # noqa: PERF402 - `extend` promises nothing when the next one fails
        complete = True
    finally:
        if rows:
            schema = table_schemas.TOKENS.with_metadata({TOKENIZER: digest})
            written = _write(pa.Table.from_pylist(rows, schema=schema), output, complete=complete)
            line = f"{len(rows)} of {len(ids)} written to {printable(written)}"
            console.print(line, markup=False, soft_wrap=True)
    return len(rows) == len(ids)


def _rows(
    tokenizer: UnitTokenizer, ids: Mapping[str, str], console: Console
) -> Iterator[dict[str, Any]]:
    grid = tokenizer.mixer.ssl.grid
    by_name = {printable(uri): printable(utt_id) for uri, utt_id in ids.items()}
    for name, waveform in readable(list(ids), grid, console):
        try:
            (units,) = tokenizer.encode([waveform])
        except ValueError as error:
            console.print(f"{name}: {error}", style="red", markup=False, soft_wrap=True)
            continue
        utt_id = by_name[name]
        yield {"utt_id": utt_id, "split": "", "units": units, "num_frames": len(units)}
        # Said once the row is safe: a console may fail too.
        seconds = len(waveform) / grid.sample_rate_hz
        line = f"{name}: {len(units)} units, {len(set(units.tolist()))} different, {seconds:.2f} s"
        console.print(line, markup=False, highlight=False, soft_wrap=True)


def _write(table: pa.Table, output: str, *, complete: bool) -> str:
    """Write the table, beside an older file if it is not complete; return where."""
    place = place_of(output, complete=complete)
    folder, name = Folder.around(place)
    Artifact(folder.uri).write_table(name, table)
    return place
