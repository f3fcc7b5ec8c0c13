"""Where each utterance's frames are in the stored shards, and how many there are."""

from collections.abc import Collection
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import pyarrow.parquet as pq

from pipeline.storage.artifacts import Artifact

# A thousand hours are twelve thousand shards, and each read of an object store has to wait.
READERS = 16
COLUMNS = ["utt_id", "num_frames"]


@dataclass(frozen=True)
class Location:
    """The shard of an utterance, the row group in it, and the utterance's number of frames."""

    shard: str
    group: int
    num_frames: int


def feature_index(features: Artifact, splits: Collection[str]) -> dict[str, Location]:
    """The location of every extracted utterance of `splits` by its utt_id."""

    def read(name: str) -> dict[str, Location]:
        locations: dict[str, Location] = {}
        with features.read(name) as file:
            shard = pq.ParquetFile(file)
            for group in range(shard.num_row_groups):
                table = shard.read_row_group(group, columns=COLUMNS)
                for utt_id, count in zip(
                    *(table[column].to_pylist() for column in COLUMNS), strict=True
                ):
                    locations[utt_id] = Location(name, group, count)
        return locations

    names = [
        name
        for name in features.names("shards")
        if name.removeprefix("shards/").rpartition("-")[0] in splits
    ]
    with ThreadPoolExecutor(READERS, thread_name_prefix="feature-index") as pool:
        return {
            utt_id: location for part in pool.map(read, names) for utt_id, location in part.items()
        }
