"""Which audio file belongs to which shard, stored so that later files do not move earlier ones."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import pyarrow as pa

from pipeline.audio.audio_files import AudioFile, probe_all
from pipeline.audio.utterance import Reject, Utterance
from pipeline.config import ConfigError
from pipeline.features.extraction import Shard, plan_shards
from pipeline.progress import Progress
from pipeline.storage.artifacts import MANIFEST, RECORDS, Artifact, ArtifactError
from pipeline.storage.table_schemas import required
from pipeline.tokenizer.identity import TOKENIZER

LISTINGS, SHARDS, REJECTS = "listings", "shards", "rejects.parquet"
# A listing is written when all its headers are read, so a kill costs at most this many.
FILES_PER_LISTING = 50_000
# All waveforms of a shard are in memory at once: 115 MB, or one longer file.
SHARD_UTTERANCES, SHARD_SECONDS = 256, 1800.0
SCHEMA = pa.schema(
    required(
        utt_id=pa.string(),
        audio=pa.string(),
        bytes=pa.int64(),
        duration=pa.float64(),
        shard=pa.string(),
    )
)


@dataclass(frozen=True)
class Listed:
    """A file with its shard, as it was when it was listed."""

    utt_id: str
    audio: str
    bytes: int
    duration: float
    shard: str

    def utterance(self) -> Utterance:
        return Utterance(self.utt_id, "", self.audio, 0.0, self.duration, speaker="", text="")


class Listing:
    """The files of an output folder: `listings/000.parquet`, and one more for each later call.

    Files in a listing are cut into shards `shards/000-00000.parquet` by their durations.
    """

    def __init__(self, output: Artifact, tokenizer: str) -> None:
        """Read the listings of `output`.

        Raises:
            ConfigError: the folder belongs to another tokenizer, or has other content.
            ArtifactError: a listing is damaged.
        """
        self._output = output
        self._tokenizer = tokenizer
        names = output.names(LISTINGS)
        if not names:
            self._require_own(output.names())
        self._parts = {name: self._read(name) for name in names}

    def shards(self) -> list[Shard]:
        """Every shard with its utterances, in the listings' order."""
        members: dict[str, list[Utterance]] = {}
        for _, part in sorted(self._parts.items()):
            for listed in part:
                members.setdefault(listed.shard, []).append(listed.utterance())
        return [Shard(name, tuple(utterances)) for name, utterances in members.items()]

    def update(self, audio: Sequence[AudioFile], progress: Progress) -> list[Reject]:
        """List the files in `audio`; return those that cannot be used.

        New files go into a new listing. A file whose size has changed keeps its shard, whose record
        is deleted, so that it is computed again; a file that has disappeared stays
        listed. A changed file is recognised by its size alone.
        """
        known = {listed.utt_id: listed for part in self._parts.values() for listed in part}
        files, rejects = _name_once(audio, {listed.audio for listed in known.values()})
        self._note_changes({file.utt_id: file for file in files})
        new = [file for file in files if file.utt_id not in known]
        progress.message(f"found {len(audio)} audio files, {len(new)} of them new")
        for first in range(0, len(new), FILES_PER_LISTING):
            rejects += self._add(new[first : first + FILES_PER_LISTING], progress)
        return rejects

    def _add(self, files: Sequence[AudioFile], progress: Progress) -> list[Reject]:
        results = probe_all(files, progress)
        sizes = {file.utt_id: file.num_bytes for file in files}
        utterances = [result for result in results if isinstance(result, Utterance)]
        stems = (f"{number:03d}" for number in range(len(self._parts) + 1))
        stem = next(stem for stem in stems if f"{LISTINGS}/{stem}.parquet" not in self._parts)
        part = [
            Listed(
                utterance.utt_id,
                utterance.audio,
                sizes[utterance.utt_id],
                utterance.duration,
                f"{SHARDS}/{stem}-{number:05d}.parquet",
            )
            for number, shard in enumerate(plan_shards(utterances, SHARD_UTTERANCES, SHARD_SECONDS))
            for utterance in shard.utterances
        ]
        if part:
            self._write(f"{LISTINGS}/{stem}.parquet", part)
        return [result for result in results if isinstance(result, Reject)]

    def _note_changes(self, files: dict[str, AudioFile]) -> None:
        for name, part in self._parts.items():
            now = [_updated(listed, files.get(listed.utt_id)) for listed in part]
            pairs = zip(now, part, strict=True)
            # Records first: a kill in between must not leave old units under the new size.
            for shard in {new.shard for new, old in pairs if new.bytes != old.bytes}:
                self._output.delete_record(shard)
            if now != part:
                self._write(name, now)

    def _require_own(self, names: Sequence[str]) -> None:
        """Without a listing, every file in the folder must be our own, because shards may be deleted."""
        for name in names:
            own = name.partition("/")[0] in {RECORDS, REJECTS, MANIFEST}
            if name.startswith(f"{SHARDS}/"):
                own = (self._output.read_record(name) or {}).get(TOKENIZER) == self._tokenizer
            if not own:
                raise ConfigError(
                    f"{self._output.uri} holds {name}, which does not belong to this command and tokenizer: "
                    "name a new folder"
                )

    def _read(self, name: str) -> list[Listed]:
        try:
            table = self._output.read_table(name)
            tokenizer = (table.schema.metadata or {})[TOKENIZER.encode()].decode()
            part = [Listed(**row) for row in table.to_pylist()]
        except (pa.ArrowException, KeyError, TypeError) as error:
            raise ArtifactError(
                f"{self._output.uri}/{name} is damaged ({error}): delete it and run again; shards "
                "whose files are the same are kept"
            ) from None
        if tokenizer != self._tokenizer:
            raise ConfigError(
                f"{self._output.uri} belongs to another tokenizer: name another folder for "
                "the units of this one"
            )
        return part

    def _write(self, name: str, part: list[Listed]) -> None:
        table = pa.Table.from_pylist([vars(listed) for listed in part], schema=SCHEMA)
        described = table.replace_schema_metadata({TOKENIZER: self._tokenizer})
        self._output.write_table(name, described)
        self._parts[name] = part


def _updated(listed: Listed, file: AudioFile | None) -> Listed:
    return listed if file is None else replace(listed, audio=file.uri, bytes=file.num_bytes)


def _name_once(audio: Sequence[AudioFile], known: set[str]) -> tuple[list[AudioFile], list[Reject]]:
    """One file for each utt_id, those at addresses in `known` first; the others as rejects."""
    named: dict[str, AudioFile] = {}
    rejects = []
    for file in sorted(audio, key=lambda file: (file.uri not in known, file.uri)):
        taken = named.setdefault(file.utt_id, file)
        if taken is not file:
            reason = f"duplicate utt_id: {taken.uri} has it already"
            rejects.append(Reject(file.utt_id, file.uri, reason))
    return list(named.values()), rejects
