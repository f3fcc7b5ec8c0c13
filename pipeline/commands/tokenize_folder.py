"""`tokenize` over folders and buckets: a job on Ray that goes on where it was stopped."""

import signal
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

from rich.console import Console

from pipeline.audio.audio_files import list_audio
from pipeline.audio.utterance import Reject, rejects_to_table
from pipeline.commands.find_model import find_model, load_model
from pipeline.commands.tokenize_listing import REJECTS, SHARDS, Listing
from pipeline.config import Cluster
from pipeline.corpus.shard_store import Record, ShardStore
from pipeline.features.extraction import Shard
from pipeline.storage.artifacts import CHECKSUM_THREADS, MANIFEST, Artifact, ArtifactError
from pipeline.storage.folders import Folder
from pipeline.tokenizer.shard_tokenizer import ShardTokenizer, made_from, rejects_of

NAME = "tokenizer"


def tokenize_folder(
    model: str, audio: Sequence[str], output: str, cluster: Cluster, console: Console
) -> bool:
    """Write the units of all audio below folders into the folder `output`, shard by shard.

    Shards that are whole are kept; see `Listing` for files that come or change between two calls.

    Returns:
        Whether there are units of any file; those that cannot be used are in `rejects.parquet`.

    Raises:
        ConfigError: there is no such tokenizer, or `output` belongs to another one.
        CorpusError: there is no audio.
        ShardError: a worker met one of the project's own errors.
    """
    started = time.monotonic()

    def say(line: str) -> None:
        minutes, seconds = divmod(int(time.monotonic() - started), 60)
        console.print(f"{minutes:3d}:{seconds:02d}  {line}", markup=False, soft_wrap=True)

    place = Artifact(Folder.at(output).uri)
    store = ShardStore(place, load_model(model, NAME, made_from))
    listing = Listing(place, store.made_from["tokenizer"])
    found = list_audio(audio)
    place.sweep()
    place.delete(MANIFEST)
    rejects = listing.update(found, say)
    shards = listing.shards()
    _forget_others(place, shards)
    pending = [shard for shard, record in _records(store, shards) if record is None]
    say(f"{len(shards) - len(pending)} of {len(shards)} shards are whole")
    if pending:
        trained, name = find_model(model, NAME)
        arguments = {
            "trained": trained,
            "output": place,
            "name": name,
            "checked": False,
        }
        _run(arguments, pending, cluster, console, say)
    return _finish(store, shards, rejects, say)


def _run(
    arguments: dict[str, object],
    shards: Sequence[Shard],
    cluster: Cluster,
    console: Console,
    say: Callable[[str], None],
) -> None:
    from pipeline.runtime.session import ray_session
    from pipeline.runtime.shard_pool import run_shards

    say("starting Ray")
    try:
        with ray_session(cluster):
            # Ray's own handler aborts the process; whoever ends a job wants Ctrl-C's clean end.
            signal.signal(signal.SIGTERM, signal.default_int_handler)
            run_shards(ShardTokenizer, arguments, shards, cluster, say)
    except KeyboardInterrupt:
        console.print("\nStopped. The same command goes on from what is whole.", style="bold")
        raise


def _records(store: ShardStore, shards: Sequence[Shard]) -> list[tuple[Shard, Record | None]]:
    """Each shard with its record, None where it is not whole."""
    with ThreadPoolExecutor(CHECKSUM_THREADS) as pool:
        found = pool.map(lambda shard: store.whole(shard.name, shard.utterances), shards)
        return list(zip(shards, found, strict=True))


def _forget_others(place: Artifact, shards: Sequence[Shard]) -> None:
    """Delete shards of a listing that is lost: its files have got other shards by now."""
    for name in set(place.names(SHARDS)) - {shard.name for shard in shards}:
        place.delete_record(name)
        place.delete(name)


def _finish(
    store: ShardStore,
    shards: Sequence[Shard],
    rejects: Sequence[Reject],
    say: Callable[[str], None],
) -> bool:
    unusable = list(rejects)
    rows = frames = 0
    for shard, record in _records(store, shards):
        if record is None:
            raise ArtifactError(f"{store.output.uri}/{shard.name} has gone: run again")
        unusable += rejects_of(record, shard.utterances)
        rows, frames = rows + record["rows"], frames + record["frames"]
    unusable.sort(key=lambda one: one.source)
    store.output.write_table(REJECTS, rejects_to_table(unusable))
    counts = {"rows": rows, "frames": frames, "rejects": len(unusable)}
    store.output.finish({"stage": "tokenize", **store.made_from, **counts})
    say(f"{rows} files, {frames} units, in {len(shards)} shards of {store.output.uri}/{SHARDS}")
    if unusable:
        first = f"{unusable[0].source}: {unusable[0].reason}"
        say(f"{len(unusable)} cannot be used, with reasons in {REJECTS}; the first is {first}")
    return rows > 0
