"""A shard on storage: a Parquet file that says what it is, and a record that vouches for it.

The record, `records/<name>.json`, is written after the shard and holds what the shard was made from
and the file's bytes and SHA-256, which are taken while it is written. A shard is whole when its
record stands, says what is asked for, and the file has the size that it tells: a run that goes on
reads no shard again. That the bytes are still those, the command `verify` proves.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

from pipeline.audio.utterance import Utterance
from pipeline.config import digest
from pipeline.storage.artifacts import Artifact
from pipeline.storage.table_schemas import num_stored_frames

Record = dict[str, Any]


@dataclass(frozen=True)
class ShardStore:
    """The shards of one output.

    `made_from` is what a shard must be made from to be whole, `notes` what a record only tells;
    both are JSON values.
    """

    output: Artifact
    made_from: Record
    notes: Record = field(default_factory=dict)

    def keep_or_write(
        self,
        name: str,
        utterances: Sequence[Utterance],
        make_table: Callable[[Sequence[Utterance]], pa.Table],
        row_group_size: int | None = None,
    ) -> Record:
        """Name, rows, frames and bytes of a shard, which is written unless it is whole."""
        record = self.whole(name, utterances)
        if record is None:
            record = self.write(name, utterances, make_table(utterances), row_group_size)
        return {"name": name, **{key: record[key] for key in ("rows", "frames", "bytes")}}

    def whole(self, name: str, utterances: Sequence[Utterance]) -> Record | None:
        """The record of a shard of exactly these utterances that is whole, else None."""
        record = self.output.read_record(name)
        if record is None or not self.output.exists(name):
            return None
        size = self.output.filesystem.size(self.output.path(name))
        fits = self._asked(utterances).items() <= record.items() and record["bytes"] == size
        return record if fits else None

    def write(
        self,
        name: str,
        utterances: Sequence[Utterance],
        table: pa.Table,
        row_group_size: int | None = None,
    ) -> Record:
        """Write the shard, what it is into its own metadata too, then its record.

        What the table's metadata says is kept, there and in the record.
        """
        own = {key.decode(): text.decode() for key, text in (table.schema.metadata or {}).items()}
        asked, frames = self._asked(utterances), num_stored_frames(table)
        about = {"rows": table.num_rows, **asked, "frames": frames, **self.notes, **own}
        # Between the two, no older record must vouch for the new file.
        self.output.delete_record(name)
        described = table.replace_schema_metadata({key: _text(about[key]) for key in about})
        record = {**about, **self.output.write_table(name, described, row_group_size)}
        self.output.write_record(name, record)
        return record

    def _asked(self, utterances: Sequence[Utterance]) -> Record:
        stretches = [(one.utt_id, one.offset, one.duration) for one in utterances]
        return {"utterances": digest(stretches), **self.made_from}


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)
