"""Which audio file belongs to which shard, stored so that later files do not move earlier ones."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import count

import pyarrow as pa

from pipeline.audio.audio_files import probe_all
from pipeline.audio.decode import NO_FILE, NO_PERMISSION, AudioAccessError, AudioError
from pipeline.audio.utterance import Reject, Utterance
from pipeline.commands.listed_changes import Changes, Listed, Search, compare
from pipeline.commands.unit_ids import Naming, name_files
from pipeline.config import ConfigError
from pipeline.corpus.shard_store import ShardStore
from pipeline.corpus.shards import Shard, plan_shards
from pipeline.progress import Progress
from pipeline.storage.artifacts import CHECKSUM_THREADS, MANIFEST, RECORDS, ArtifactError
from pipeline.storage.table_schemas import required
from pipeline.tokenizer.identity import TOKENIZER
from pipeline.tokenizer.shard_tokenizer import keep_rows

LISTINGS, SHARDS, REJECTS = "listings", "shards", "rejects.parquet"
# A listing is written when all its headers are read, so a kill costs at most this many.
FILES_PER_LISTING = 50_000
# All waveforms of a shard are in memory at once: 115 MB, or one longer file.
SHARD_UTTERANCES, SHARD_SECONDS = 256, 1800.0
SCHEMA = pa.schema(
    required(
        utt_id=pa.string(),
        root=pa.string(),
        name=pa.string(),
        prefix=pa.string(),
        bytes=pa.int64(),
        version=pa.string(),
        duration=pa.float64(),
        shard=pa.string(),
        reason=pa.string(),
        retry=pa.bool_(),
    )
)
Part = list[Listed]
Members = dict[str, list[Utterance]]


class Listing:
    """The files of an output folder: `listings/000.parquet`, and one more for each later call.

    Files in a listing are cut into shards `shards/000-00000.parquet` by their durations. A file that
    cannot be used is listed too, with the reason, and looked at again when it has changed.
    """

    def __init__(self, store: ShardStore) -> None:
        """Read the listings of the store's output.

        Raises:
            ConfigError: the folder belongs to another tokenizer, or has other content.
            ArtifactError: a listing is damaged.
        """
        self._store = store
        self._output = store.output
        self._tokenizer = store.made_from[TOKENIZER]
        names = self._output.names(LISTINGS)
        if not names:
            self._require_own(self._output.names())
        self._parts = {name: self._read(name) for name in names}

    @property
    def num_files(self) -> int:
        return sum(map(len, self._parts.values()))

    def shards(self) -> list[Shard]:
        """Every shard with its utterances, in the listings' order."""
        return [Shard(name, tuple(members)) for name, members in _members(self._listed()).items()]

    def rejects(self) -> list[Reject]:
        """The files that are in no shard."""
        return [
            Reject(each.utt_id, each.audio, each.reason) for each in self._listed() if each.reason
        ]

    def update(self, search: Search, progress: Progress) -> None:
        """List what is new in `search`, and forget what is gone, with its units.

        A changed file is listed anew under the id it had; whatever else was in its shard stays.
        """
        known = {each.audio: each for each in self._listed()}
        changes = compare(list(known.values()), search)
        _tell(known, search, changes, progress)
        self._forget(changes)
        changed = [
            replace(known[uri], bytes=file.info.num_bytes, version=file.info.version)
            for uri, file in changes.changed.items()
        ]
        added = [*changed, *self._named(search, changes, known.values())]
        added.sort(key=lambda each: each.audio)
        for first in range(0, len(added), FILES_PER_LISTING):
            self._add(added[first : first + FILES_PER_LISTING], progress)

    def note_unopened(self, rejects: Iterable[Reject]) -> None:
        """Let the next call try those again that a worker could not open: its machine may be at fault."""
        ids = {each.utt_id for each in rejects if each.kind in {NO_FILE, NO_PERMISSION}}
        for name, part in list(self._parts.items()):
            noted = [replace(each, retry=True) if each.utt_id in ids else each for each in part]
            if noted != part:
                self._write(name, noted)

    def _listed(self) -> Iterator[Listed]:
        return (each for _, part in sorted(self._parts.items()) for each in part)

    def _forget(self, changes: Changes) -> None:
        """Take what is gone or changed out of listings and shards; note where others are now."""
        for name, part in list(self._parts.items()):
            kept = [
                each.at(changes.moved.get(each.audio))
                for each in part
                if each.audio not in changes.gone and each.audio not in changes.changed
            ]
            # Shards first: a call that stops here finds the same changes again.
            self._narrow(_members(part), _members(kept))
            if kept != part:
                self._write(name, kept)

    def _narrow(self, before: Members, after: Members) -> None:
        smaller = [name for name in before if len(after.get(name, ())) < len(before[name])]
        with ThreadPoolExecutor(CHECKSUM_THREADS) as pool:
            done = pool.map(
                lambda name: keep_rows(self._store, name, before[name], after.get(name, ())),
                smaller,
            )
            list(done)  # raises what was raised there

    def _named(self, search: Search, changes: Changes, known: Iterable[Listed]) -> list[Listed]:
        """New files, with ids that no other file has; an id whose file is gone is free."""
        prefixes = {each.root: each.prefix for each in (*known, *self._listed())}
        taken = {each.utt_id for each in self._listed()}
        taken |= {each.utt_id for each in known if each.audio in changes.changed}
        files = {file.uri: file for file in changes.new}
        names = name_files(files, search.folders, Naming(prefixes, taken))
        return [Listed.new(names[uri], file.info) for uri, file in files.items()]

    def _add(self, files: Sequence[Listed], progress: Progress) -> None:
        """Write a listing of them, with shards for those whose headers give a duration."""
        results = probe_all([each.audio for each in files], progress)
        part = [_probed(each, result) for each, result in zip(files, results, strict=True)]
        numbers = (f"{number:03d}" for number in count())
        stem = next(each for each in numbers if f"{LISTINGS}/{each}.parquet" not in self._parts)
        usable = [each.utterance() for each in part if not each.reason]
        shards = {
            utterance.utt_id: f"{SHARDS}/{stem}-{number:05d}.parquet"
            for number, shard in enumerate(plan_shards(usable, SHARD_UTTERANCES, SHARD_SECONDS))
            for utterance in shard.utterances
        }
        place = {utt_id: number for number, utt_id in enumerate(shards)}
        part.sort(key=lambda each: (place.get(each.utt_id, len(place)), each.audio))
        sharded = [replace(each, shard=shards.get(each.utt_id, "")) for each in part]
        self._write(f"{LISTINGS}/{stem}.parquet", sharded)

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
                f"{self._output.uri}/{name} is damaged or of an earlier version ({error}): delete it "
                "and run again; shards whose files are the same are kept"
            ) from None
        if tokenizer != self._tokenizer:
            raise ConfigError(
                f"{self._output.uri} belongs to another tokenizer: name another folder for "
                "the units of this one"
            )
        return part

    def _write(self, name: str, part: Part) -> None:
        if not part:
            self._output.delete(name)
            del self._parts[name]
            return
        table = pa.Table.from_pylist([vars(listed) for listed in part], schema=SCHEMA)
        described = table.replace_schema_metadata({TOKENIZER: self._tokenizer})
        self._output.write_table(name, described)
        self._parts[name] = part


def _members(listed: Iterable[Listed]) -> Members:
    """The utterances of each shard, in their order."""
    members: dict[str, list[Utterance]] = {}
    for each in listed:
        if each.shard:
            members.setdefault(each.shard, []).append(each.utterance())
    return members


def _probed(listed: Listed, result: float | AudioError) -> Listed:
    """With what the header says; a file that could not be opened is tried again by the next call."""
    if isinstance(result, AudioError):
        retry = isinstance(result, AudioAccessError)
        return replace(listed, duration=0.0, reason=str(result), retry=retry)
    return replace(listed, duration=result, reason="", retry=False)


def _tell(
    known: Mapping[str, Listed], search: Search, changes: Changes, progress: Progress
) -> None:
    changed = [uri for uri in changes.changed if not known[uri].retry]
    more = f", {len(changed)} changed" if changed else ""
    progress.message(f"found {len(search.files)} audio files, {len(changes.new)} of them new{more}")
    gone = [uri for uri in changes.gone if known[uri].shard]
    if gone:
        most = len(gone) > len(known) / 2
        hint = ", most of what was there: if a disk is only not mounted, mount it and run again"
        progress.message(f"removes the units of {len(gone)} files that are gone{hint * most}")
    for root, number in sorted(changes.out_of_reach.items()):
        progress.message(
            f"keeps the units of {number} files that cannot be looked at below {root} now; if they "
            "are gone for good, write a new output and delete this one"
        )
