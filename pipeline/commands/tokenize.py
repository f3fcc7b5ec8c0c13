"""`tokenize`: units of audio files, by a trained tokenizer."""

from collections.abc import Sequence
from typing import Any

import pyarrow as pa
import torch
from rich.console import Console

from pipeline.commands.find_model import load_model
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
    tokenizer.to("cuda" if torch.cuda.is_available() else "cpu")
    grid = tokenizer.mixer.ssl.grid
    rows: list[dict[str, Any]] = []
    try:
        for uri, waveform in readable(audio, grid, console):
            (units,) = tokenizer.encode([waveform])
            rows.append({"utt_id": uri, "split": "", "units": units, "num_frames": len(units)})
            seconds, different = len(waveform) / grid.sample_rate_hz, len(set(units.tolist()))
            line = f"{uri}: {len(units)} units, {different} different, {seconds:.2f} s"
            console.print(line, markup=False, highlight=False, soft_wrap=True)
    finally:
        # Whatever stops it, such as Ctrl-C, the units that were made are kept.
        if rows:
            _write(rows, digest, output)
            line = f"{len(rows)} of {len(audio)} written to {printable(output)}"
            console.print(line, markup=False, soft_wrap=True)
    return len(rows) == len(audio)


def _write(rows: list[dict[str, Any]], tokenizer: str, output: str) -> None:
    folder, name = Folder.around(output)
    table = pa.Table.from_pylist(
        rows, schema=table_schemas.TOKENS.with_metadata({TOKENIZER: tokenizer})
    )
    Artifact(folder.uri).write_table(name, table)
