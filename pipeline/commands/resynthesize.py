"""`resynthesize`: speech from stored units, by a trained vocoder."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import IO

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from rich.console import Console

from pipeline.audio.decode import write_audio
from pipeline.commands.find_model import load_model
from pipeline.config import ConfigError
from pipeline.storage import table_schemas
from pipeline.storage.artifacts import Artifact
from pipeline.storage.folders import Folder
from pipeline.storage.writable import require_writable
from pipeline.tokenizer.identity import tokenizer_of_schema
from pipeline.vocoder.generator import UnitVocoder

COLUMNS = ["utt_id", "units"]
SCHEMA = pa.schema([table_schemas.TOKENS.field(name) for name in COLUMNS])
# Of a file's 255; the rest is for a number, the extension and the name of the file being written.
MOST_NAME_BYTES = 200
# Where outputs of tokenize_corpus and `tokenize` have their units, beside other tables.
UNITS_OF_OUTPUTS = ("tokens/", "shards/")


def resynthesize(
    model: str, tokens: Sequence[str], speaker: str | None, output: str, console: Console
) -> None:
    """Write one WAV file into the folder `output` for each row of the Parquet files `tokens`.

    Folders stand for the files of units in them. All files are checked before the first is spoken.

    Raises:
        ConfigError: a file has no tokens, or units of another tokenizer, or the speaker is unknown.
        UnwritableError: `output` cannot be written, which is found before any work.
    """
    require_writable(output)
    vocoder = load_model(model, "vocoder", UnitVocoder.from_pretrained)
    if speaker is not None and speaker not in vocoder.speakers:
        raise ConfigError(
            f"the vocoder does not know the speaker '{speaker}': leave --speaker out, or name one of "
            f"{', '.join(vocoder.speakers)}"
        )
    files = [TokenFile.at(uri) for name in tokens for uri in _uris(name)]
    _check(model, vocoder, files, console)
    folder = Artifact(output.rstrip("/") or output)
    taken: set[str] = set()
    for utt_id, units in (row for file in files for row in file.rows()):
        try:
            waveform = vocoder.resynthesize(units, speaker)
        except ValueError as error:
            raise ConfigError(f"{utt_id}: {error}") from error
        name = f"{_free_name(utt_id, taken)}.wav"
        with folder.write(name) as file:
            write_audio(file, waveform, vocoder.sample_rate_hz, format="WAV")
        line = f"{folder.uri}/{name}: {len(waveform) / vocoder.sample_rate_hz:.2f} s"
        console.print(line, markup=False, highlight=False, soft_wrap=True)


@dataclass(frozen=True)
class TokenFile:
    """A Parquet file of units, and the digest of their tokenizer if the file says it."""

    uri: str
    tokenizer: str | None

    @classmethod
    def at(cls, uri: str) -> "TokenFile":
        with _opened(uri) as file:
            schema = pq.read_schema(file)
            if missing := set(COLUMNS) - set(schema.names):
                raise ValueError(f"it lacks {', '.join(sorted(missing))}")
        return cls(uri, tokenizer_of_schema(schema))

    def rows(self) -> Iterator[tuple[str, np.ndarray]]:
        """Each utterance's id and units (T)."""
        with _opened(self.uri) as file:
            table = pq.read_table(file, columns=COLUMNS).select(COLUMNS).cast(SCHEMA)
            rows = [
                (row["utt_id"], np.asarray(row["units"], np.uint16)) for row in table.to_pylist()
            ]
        yield from rows


@contextmanager
def _opened(uri: str) -> Iterator[IO[bytes]]:
    """The file at `uri`; whatever else is there is an error that names the file."""
    folder, name = Folder.around(uri)
    try:
        with folder.open(name) as file:
            yield file
    except FileNotFoundError:
        raise ConfigError(f"{uri}: no such file") from None
    except (ValueError, TypeError, pa.ArrowException) as error:
        names = ", ".join(table_schemas.TOKENS.names)
        raise ConfigError(
            f"{uri} has no tokens: name a Parquet file with {names} ({error})"
        ) from error


def _uris(name: str) -> list[str]:
    folder = Folder.at(name)
    if not folder.is_folder():
        return [name]
    tables = [file for file in folder.files() if file.endswith(".parquet")]
    of_output = [file for file in tables if file.startswith(UNITS_OF_OUTPUTS)]
    if not tables:
        raise ConfigError(f"{name} has no tokens: it holds no Parquet file")
    return [f"{folder.uri}/{file}" for file in of_output or tables]


def _check(model: str, vocoder: UnitVocoder, files: Sequence[TokenFile], console: Console) -> None:
    """Warn of what does not say its tokenizer; refuse units of two."""
    others = [file for file in files if file.tokenizer not in {None, vocoder.tokenizer}]
    if vocoder.tokenizer is not None and others:
        raise ConfigError(
            f"{others[0].uri} holds units of the tokenizer {others[0].tokenizer}, but {model} was trained "
            f"on those of {vocoder.tokenizer}, whose numbers stand for other sounds: name the "
            "train_vocoder output of the variant that made these units, or tokenize the audio "
            "with the vocoder's own variant"
        )
    unknown = [file.uri for file in files if file.tokenizer is None]
    if vocoder.tokenizer is None:
        unknown = [model, *unknown]
    if unknown:
        more = f" (and {len(unknown) - 1} more)" if unknown[1:] else ""
        line = (
            f"Not checked that units and vocoder are of one tokenizer: {unknown[0]}{more} "
            "does not name it. Otherwise what you hear is not what was said."
        )
        console.print(line, style="yellow", markup=False, soft_wrap=True)


def _free_name(utt_id: str, taken: set[str]) -> str:
    """A unique file name for an utterance, whose id may be a path."""
    leaf = utt_id.rstrip("/").rpartition("/")[2].replace("\0", "") or "utterance"
    stem = name = leaf.encode()[:MOST_NAME_BYTES].decode(errors="ignore")
    number = 1
    while name in taken:
        number += 1
        name = f"{stem}-{number}"
    taken.add(name)
    return name
