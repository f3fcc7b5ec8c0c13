"""A shard on storage: a Parquet file and the record that proves it complete.

The record, `records/<name>.json`, is written after the shard. It holds what the shard was made
from, and the size and SHA-256 of the file, both taken while it was written. A shard is complete if
its record exists and matches what is wanted, and the file has the recorded size; so a resumed run
reads no shard again. The command `verify` compares the checksums.
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

    `made_from` must match for a shard to be reused; `notes` are recorded without being compared.
    Both are JSON values.
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
        """Name, rows, frames and bytes of a shard, which is written unless it is complete."""
        record = self.complete(name, utterances)
        if record is None:
            record = self.write(name, utterances, make_table(utterances), row_group_size)
        return {"name": name, **{key: record[key] for key in ("rows", "frames", "bytes")}}

    def complete(self, name: str, utterances: Sequence[Utterance]) -> Record | None:
        """The record of a complete shard of exactly these utterances, otherwise None."""
        record = self.output.read_record(name)
        if record is None or not self.output.exists(name):
            return None
        size = self.output.filesystem.size(self.output.path(name))
        fits = self._wanted(utterances).items() <= record.items() and record["bytes"] == size
        return record if fits else None

    def write(
        self,
        name: str,
        utterances: Sequence[Utterance],
        table: pa.Table,
        row_group_size: int | None = None,
    ) -> Record:
        """Write the shard, with its description in its own metadata, then its record.

        Metadata that the table already has is kept, in the file and in the record.
        """
        own = {key.decode(): text.decode() for key, text in (table.schema.metadata or {}).items()}
        wanted, frames = self._wanted(utterances), num_stored_frames(table)
        about = {"rows": table.num_rows, **wanted, "frames": frames, **self.notes, **own}
        # While the file is being replaced, no older record may stand beside it.
        self.output.delete_record(name)
        described = table.replace_schema_metadata(
            {
                key: value if isinstance(value, str) else json.dumps(value)
                for key, value in about.items()
            }
        )
        record = {**about, **self.output.write_table(name, described, row_group_size)}
        self.output.write_record(name, record)
        return record

    def _wanted(self, utterances: Sequence[Utterance]) -> Record:
        heard = [
            (row.utt_id, row.offset, row.duration, row.audio_sha256 or row.audio_version)
            for row in utterances
        ]
        return {"utterances": digest(heard), **self.made_from}
