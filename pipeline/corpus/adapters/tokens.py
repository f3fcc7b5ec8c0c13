"""A corpus of tokens without audio, in Parquet: `utt_id`, `split`, `units`, and perhaps `text`.

Such are the tokens of `tokenize_corpus`, and whatever others have made with these columns.
"""

import hashlib
import io
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.audio.unusable import UnusableError
from pipeline.audio.utterance import CorpusError, Reject, Utterance
from pipeline.config import digest
from pipeline.config.corpus import CorpusSection
from pipeline.config.section import Address, Positive
from pipeline.corpus.adapter import Adapter, Entries
from pipeline.corpus.expected_durations import Durations
from pipeline.corpus.json_rows import Row, Text, json_rows
from pipeline.corpus.text_table import read_text
from pipeline.progress import Progress
from pipeline.storage import table_schemas
from pipeline.storage.artifacts import Artifact
from pipeline.storage.folders import Folder, printable

PARQUET = ".parquet"
MOST_UNITS = 1 << 16
# Of whom the tokens do not say who speaks.
UNKNOWN_SPEAKER = "unknown"


class TokenCorpus(CorpusSection):
    """Tokens and texts, for `train_token_asr`; of the stages, those that need audio are left out."""

    has_audio: ClassVar[bool] = False

    kind: Literal["tokens"] = "tokens"
    tokens: Address
    """A Parquet file, or a folder with any number of them, with the columns `utt_id`, `split` and
    `units` (a list of integers); `text` and `speaker` too, unless `texts` has them."""
    texts: Address | None = None
    """Where the texts are, if not beside the tokens: a Parquet file such as `corpus.parquet` of
    `prepare_corpus`, or JSON Lines; with `utt_id`, `text` and perhaps `speaker`."""
    units_per_second: Positive = 50.0
    """Units for a second of speech, by which utterances have a duration."""


@dataclass(frozen=True)
class _Spoken:
    """What was said, and by whom; empty where it is not known."""

    text: str
    speaker: str


class _TextRow(Row):
    utt_id: Text
    text: Text
    speaker: Text = ""


class TokenAdapter(Adapter[TokenCorpus]):
    """Reads the tables, and stores the units of the named splits as `tokenize_corpus` does."""

    section = TokenCorpus

    def read(self, config: TokenCorpus, output: Artifact, progress: Progress) -> Entries:  # noqa: ARG002
        """The entries; the units that they stand for are in `output` when all have been read."""
        texts = _texts(config)
        units: dict[str, list[dict[str, Any]]] = defaultdict(list)
        seen: set[str] = set()
        for source, row in _rows(config):
            entry = _entry(row, source, texts, config)
            yield entry
            if isinstance(entry, Reject) or entry.split not in config.splits.names:
                continue
            if entry.utt_id not in seen:  # the check keeps the first of an id
                seen.add(entry.utt_id)
                units[entry.split].append(_token_row(entry, row["units"]))
        for split, rows in units.items():
            table = pa.Table.from_pylist(rows, schema=table_schemas.TOKENS)
            output.write_table(f"tokens/{split}-00000.parquet", table)

    def fingerprint(self, config: TokenCorpus, cache: Artifact) -> str:  # noqa: ARG002
        """Files of tokens count by size and version, texts by content."""
        folder, files = _files(config)
        infos = [(name, str(folder.info(name))) for name in files]
        texts = (
            hashlib.sha256(_read(config.texts, "corpus.texts")).hexdigest() if config.texts else ""
        )
        return digest([infos, texts])

    def paths(self, config: TokenCorpus) -> dict[str, str]:
        texts = {} if config.texts is None else {"texts": config.texts}
        return {"tokens": config.tokens, **texts}

    def durations(self, config: TokenCorpus) -> dict[str, Durations]:
        seconds: dict[str, list[float]] = defaultdict(list)
        for _, row in _rows(config):
            if row["split"] in config.splits.names:
                seconds[row["split"]].append(len(row["units"] or ()) / config.units_per_second)
        return {split: Durations(of_split) for split, of_split in seconds.items()}

    def speakers(self, config: TokenCorpus) -> set[str]:
        texts = _texts(config)
        entries = (_entry(row, source, texts, config) for source, row in _rows(config))
        named = (entry for entry in entries if isinstance(entry, Utterance))
        return {entry.speaker for entry in named if entry.split in config.splits.names}


def _entry(
    row: dict[str, Any], source: str, texts: Mapping[str, _Spoken] | None, config: TokenCorpus
) -> Utterance | Reject:
    """The utterance of a row; its units stand in the place of the audio that was decoded."""
    utt_id = row["utt_id"]
    try:
        units_T = _units(row["units"])
        spoken = _spoken(row, texts)
    except UnusableError as error:
        return Reject(utt_id, source, str(error))
    return Utterance(
        utt_id=utt_id or "",
        split=row["split"] or "",
        audio=source,
        offset=0.0,
        duration=len(units_T) / config.units_per_second,
        speaker=spoken.speaker or UNKNOWN_SPEAKER,
        text=spoken.text,
        audio_sha256=hashlib.sha256(units_T.tobytes()).hexdigest(),
    )


def _units(units: Sequence[int] | None) -> np.ndarray:
    """The units of a row, as uint16.

    Raises:
        UnusableError: there are none, or one that no token table can hold.
    """
    if not units:
        raise UnusableError("no units: the list is empty")
    if None in units:
        raise UnusableError("no units: the list has gaps")
    if not 0 <= min(units) <= max(units) < MOST_UNITS:
        raise UnusableError(
            f"unit out of range: {min(units)} to {max(units)}, of 0 to {MOST_UNITS - 1}"
        )
    return np.array(units, dtype=np.uint16)


def _spoken(row: dict[str, Any], texts: Mapping[str, _Spoken] | None) -> _Spoken:
    if texts is None:
        spoken = _Spoken(row.get("text") or "", row.get("speaker") or "")
    else:
        spoken = texts.get(row["utt_id"], _Spoken("", ""))
    if not spoken.text:
        raise UnusableError("no text: neither beside the units nor in corpus.texts")
    return spoken


def _token_row(utterance: Utterance, units: Sequence[int]) -> dict[str, Any]:
    name = {"utt_id": utterance.utt_id, "split": utterance.split}
    return {**name, "units": units, "num_frames": len(units)}


def _files(config: TokenCorpus) -> tuple[Folder, list[str]]:
    """The folder of the tokens, and the names of the Parquet files in it.

    Raises:
        CorpusError: there is none.
    """
    folder, name = Folder.around(config.tokens)
    if folder.info(name) is not None:
        return folder, [name]
    folder = Folder.at(config.tokens)
    names = [name for name in folder.files() if name.endswith(PARQUET)]
    if not names:
        raise CorpusError(
            f"there are no tokens at '{config.tokens}': set corpus.tokens to a Parquet file, or to a "
            "folder with some"
        )
    return folder, names


def _rows(config: TokenCorpus) -> Iterator[tuple[str, dict[str, Any]]]:
    """Each row of all files, with the address of its file."""
    folder, names = _files(config)
    for name in names:
        address = printable(folder.address(name))
        optional = ("text", "speaker")
        table = _table(_read(folder.address(name), "corpus.tokens"), address, _TOKENS, optional)
        for batch in table.to_batches(max_chunksize=1024):
            yield from ((address, row) for row in batch.to_pylist())


def _texts(config: TokenCorpus) -> dict[str, _Spoken] | None:
    """The texts by utt_id, of the table that `corpus.texts` names; the first of an id counts."""
    if config.texts is None:
        return None
    content = _read(config.texts, "corpus.texts")
    if config.texts.endswith(PARQUET):
        rows = _table(content, config.texts, _TEXTS, ("speaker",)).to_pylist()
    else:
        lines = json_rows(_TextRow, content, config.texts)
        rows = [row.model_dump() for _, row in lines if isinstance(row, _TextRow)]
    return {
        row["utt_id"]: _Spoken(row["text"] or "", row.get("speaker") or "")
        for row in reversed(rows)
    }


def _is_text(kind: pa.DataType) -> bool:
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


def _is_units(kind: pa.DataType) -> bool:
    types = pa.types
    listed = types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind)
    return bool(listed and types.is_integer(kind.value_type))


_TOKENS = {"utt_id": _is_text, "split": _is_text, "units": _is_units}
_TEXTS = {"utt_id": _is_text, "text": _is_text}


def _table(
    content: bytes,
    address: str,
    needed: Mapping[str, Callable[[pa.DataType], bool]],
    optional: Sequence[str],
) -> pa.Table:
    """The columns of a Parquet file that count.

    Raises:
        CorpusError: it is none, or lacks a column, or has one of another type.
    """
    try:
        file = pq.ParquetFile(io.BytesIO(content))
        names = file.schema_arrow.names
        table = file.read(columns=[*needed, *(name for name in optional if name in names)])
    except pa.ArrowException as error:
        raise CorpusError(f"'{address}' cannot be read as Parquet: {error}") from None
    for name, suits in needed.items():
        if name not in table.column_names:
            raise CorpusError(
                f"'{address}' has no column '{name}', but {names}: rename one, or name other files"
            )
        kind = table.schema.field(name).type
        if not suits(kind):
            raise CorpusError(
                f"column '{name}' of '{address}' holds {kind}: utt_id, split and text must be strings, "
                "units lists of integers"
            )
    return table


def _read(address: str, key: str) -> bytes:
    return read_text(*Folder.around(address), f"there is no file at '{address}': check {key}")


ADAPTER = TokenAdapter()
