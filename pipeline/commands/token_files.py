"""Parquet files of units, as `tokenize` and runs write them, for the commands that read them."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import IO

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from rich.console import Console

from pipeline.config import ConfigError
from pipeline.storage import table_schemas
from pipeline.storage.folders import Folder
from pipeline.tokenizer.identity import is_deduplicated, tokenizer_of_schema

COLUMNS = ["utt_id", "units"]
SCHEMA = pa.schema([table_schemas.TOKENS.field(name) for name in COLUMNS])
# Where outputs of tokenize_corpus and `tokenize` have their units, beside other tables.
UNITS_OF_OUTPUTS = ("tokens/", "shards/")


@dataclass(frozen=True)
class TokenFile:
    """A file of units, and what it says of them.

    Attributes:
        tokenizer: the digest of their tokenizer, if the file says it.
        deduplicated: whether each unit stands for a run of frames, instead of for one frame.
    """

    uri: str
    tokenizer: str | None
    deduplicated: bool

    @classmethod
    def at(cls, uri: str) -> "TokenFile":
        with _opened(uri) as file:
            schema = pq.read_schema(file)
            if missing := set(COLUMNS) - set(schema.names):
                raise ValueError(f"it lacks {', '.join(sorted(missing))}")
        return cls(uri, tokenizer_of_schema(schema), is_deduplicated(schema))

    def rows(self) -> Iterator[tuple[str, np.ndarray]]:
        """Each utterance's id and units (T)."""
        with _opened(self.uri) as file:
            table = pq.read_table(file, columns=COLUMNS).select(COLUMNS).cast(SCHEMA)
            rows = [
                (row["utt_id"], np.asarray(row["units"], np.uint16)) for row in table.to_pylist()
            ]
        yield from rows


def token_files(names: Sequence[str]) -> list[TokenFile]:
    """The files that are named; folders stand for the files of units in them.

    Raises:
        ConfigError: a file has no tokens, or a folder no file.
    """
    return [TokenFile.at(uri) for name in names for uri in _uris(name)]


def check_tokenizer(
    model: str, tokenizer: str | None, stage: str, files: Sequence[TokenFile], console: Console
) -> None:
    """Warn of files that do not name their tokenizer; refuse units of another one than the model's.

    Args:
        model: the address of a model that reads units.
        tokenizer: the digest of the tokenizer whose units it knows, if that is known.
        stage: what trains such models.
        files: what it is to read.
        console: for the warning.

    Raises:
        ConfigError: units of another tokenizer.
    """
    others = [file for file in files if file.tokenizer not in {None, tokenizer}]
    if tokenizer is not None and others:
        raise ConfigError(
            f"{others[0].uri} holds units of the tokenizer {others[0].tokenizer}, but {model} was trained "
            f"on those of {tokenizer}, whose numbers stand for other sounds: name the {stage} output of "
            "the variant that made these units, or tokenize the audio with the variant of this one"
        )
    unknown = [file.uri for file in files if file.tokenizer is None]
    if tokenizer is None:
        unknown = [model, *unknown]
    if unknown:
        more = f" (and {len(unknown) - 1} more)" if unknown[1:] else ""
        line = (
            f"Not checked that units and model are of one tokenizer: {unknown[0]}{more} does not name "
            "it. Otherwise what comes out has nothing to do with what was said."
        )
        console.print(line, style="yellow", markup=False, soft_wrap=True)


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
