"""`tokenize` over folders and buckets: a job on Ray that resumes where it stopped."""

import signal
from collections.abc import Collection, Sequence
from concurrent.futures import ThreadPoolExecutor

from rich.console import Console

from pipeline.audio.utterance import CorpusError, Reject, rejects_to_table
from pipeline.commands.find_model import find_model, load_model
from pipeline.commands.listed_changes import Search
from pipeline.commands.run_display import RunDisplay
from pipeline.commands.tokenize_listing import REJECTS, SHARDS, Listing
from pipeline.config import Cluster
from pipeline.corpus.shard_store import Record, ShardStore
from pipeline.corpus.shards import Shard
from pipeline.progress import Progress
from pipeline.storage.artifacts import CHECKSUM_THREADS, MANIFEST, Artifact, ArtifactError
from pipeline.storage.folders import Folder
from pipeline.storage.writable import require_writable
from pipeline.tokenizer.shard_tokenizer import ShardTokenizer, made_from, rejects_of

NAME = "tokenizer"


def tokenize_folder(
    model: str, audio: Sequence[str], output: str, cluster: Cluster, console: Console
) -> bool:
    """Write the units of all audio below folders into the folder `output`, shard by shard.

    Complete shards are kept; see `Listing` for files that are added or changed between two calls.

    Returns:
        Whether there are units of any file; those that cannot be used are in `rejects.parquet`.

    Raises:
        ConfigError: there is no such tokenizer, or `output` belongs to another one.
        UnwritableError: `output` cannot be written, which is found before any work.
        CorpusError: there is no audio.
        ShardError: a worker raised one of the project's own errors.
    """
    try:
        with RunDisplay(console) as display:
            return _tokenize(model, audio, output, cluster, display.progress("tokenize"))
    except KeyboardInterrupt:
        console.print("\nStopped. The same command resumes where this one stopped.", style="bold")
        raise


def _tokenize(
    model: str, audio: Sequence[str], output: str, cluster: Cluster, progress: Progress
) -> bool:
    require_writable(output)
    folder = Artifact(Folder.at(output).uri)
    store = ShardStore(folder, load_model(model, NAME, made_from))
    listing = Listing(store)
    search = _search(audio, listing)
    folder.sweep()
    folder.delete(MANIFEST)
    listing.update(search, progress)
    shards = listing.shards()
    _delete_others(folder, shards)
    pending = [shard for shard, record in _records(store, shards) if record is None]
    progress.message(f"has {len(shards) - len(pending)} of {len(shards)} shards already")
    if pending:
        trained, name = find_model(model, NAME)
        arguments = {"trained": trained, "output": folder, "name": name, "checked": False}
        _run(arguments, pending, cluster, progress)
    records = _complete(store, shards)
    rejects = [
        each for shard in shards for each in rejects_of(records[shard.name], shard.utterances)
    ]
    listing.note_unopened(rejects)
    rejects += [*search.unusable, *listing.rejects()]
    return _finish(store, records.values(), rejects, progress)


def _search(audio: Sequence[str], listing: Listing) -> Search:
    try:
        return Search.of(audio)
    except CorpusError as error:
        kept = listing.num_files
        if not kept:
            raise
        raise CorpusError(
            f"{error}. The output keeps the units of {kept} files; if all audio is gone for good, delete it"
        ) from None


def _run(
    arguments: dict[str, object], shards: Sequence[Shard], cluster: Cluster, progress: Progress
) -> None:
    from pipeline.runtime.session import ray_session

    progress.update(note="starting Ray")
    with ray_session(cluster):
        from pipeline.runtime.shard_pool import run_shards  # imports Ray, so not earlier

        # Ray's own handler aborts the process; a job that is stopped should end as cleanly as
        # after Ctrl-C.
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        run_shards(ShardTokenizer, arguments, shards, cluster, progress)


def _records(store: ShardStore, shards: Sequence[Shard]) -> list[tuple[Shard, Record | None]]:
    """Each shard with its record, `None` if it is not complete."""
    with ThreadPoolExecutor(CHECKSUM_THREADS) as pool:
        records = pool.map(lambda shard: store.complete(shard.name, shard.utterances), shards)
        return list(zip(shards, records, strict=True))


def _delete_others(folder: Artifact, shards: Sequence[Shard]) -> None:
    """Delete shards of a lost listing: its files belong to other shards now."""
    for name in set(folder.names(SHARDS)) - {shard.name for shard in shards}:
        folder.delete_record(name)
        folder.delete(name)


def _complete(store: ShardStore, shards: Sequence[Shard]) -> dict[str, Record]:
    """The record of each shard."""
    records = {}
    for shard, record in _records(store, shards):
        if record is None:
            lost = f"{store.output.uri}/{shard.name}"
            raise ArtifactError(f"{lost} has disappeared: run the command again")
        records[shard.name] = record
    return records


def _finish(
    store: ShardStore, records: Collection[Record], rejects: Sequence[Reject], progress: Progress
) -> bool:
    unusable = sorted(rejects, key=lambda reject: reject.source)
    store.output.write_table(REJECTS, rejects_to_table(unusable))
    rows, frames = (sum(int(record[key]) for record in records) for key in ("rows", "frames"))
    counts = {"rows": rows, "frames": frames, "rejects": len(unusable)}
    store.output.finish({"stage": "tokenize", **store.made_from, **counts})
    shards_at = f"{len(records)} shards of {store.output.uri}/{SHARDS}"
    progress.message(f"wrote {rows} files, {frames} units, in {shards_at}")
    if unusable:
        first = f"{unusable[0].source}: {unusable[0].reason}"
        reasons = f"with reasons in {REJECTS}; the first is {first}"
        progress.message(f"rejected {len(unusable)} files, {reasons}")
    return rows > 0
