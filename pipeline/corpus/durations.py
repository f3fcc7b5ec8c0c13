"""How long the utterances of a corpus are, whether it is prepared or only planned."""

from contextlib import suppress
from dataclasses import replace

import pyarrow as pa
import pyarrow.compute as pc

from pipeline.config.corpus import CorpusSection
from pipeline.corpus.adapter import adapter_of
from pipeline.corpus.expected_durations import Durations
from pipeline.corpus.listing import MANY
from pipeline.storage.artifacts import Artifact, ArtifactError


def durations_by_split(
    config: CorpusSection, corpus: Artifact, cache: Artifact
) -> dict[str, Durations]:
    """Of `corpus`, the output of prepare_corpus; before it has one, what is expected.

    Before, a fold counts as the whole corpus that it is one of. What takes its time is kept in the folder `cache`, for the digest of `corpus`: headers that were
    read, and tables of many utterances.

    Raises:
        CorpusError: the corpus does not exist.
        AudioStorageError: the storage of its audio failed.
    """
    if corpus.exists("corpus.parquet"):
        return _of_table(corpus.read_table("corpus.parquet", columns=["split", "duration"]))
    name = f"durations-{corpus.uri.rpartition('/')[2]}.parquet"
    with suppress(ArtifactError, OSError, KeyError, pa.ArrowException):
        return _of_table(cache.read_table(name))
    durations: dict[str, Durations] = adapter_of(config).durations(config.whole)
    many = sum(len(each.seconds) for each in durations.values()) >= MANY
    if many or any(each.source != "tables" for each in durations.values()):
        # A storage that cannot be written is reported where an output is to be written.
        with suppress(ArtifactError, OSError):
            cache.write_table(name, _to_table(durations))
    return durations


def _to_table(durations: dict[str, Durations]) -> pa.Table:
    tables = [
        pa.table(
            {
                "split": [split] * len(each.seconds),
                "duration": each.seconds,
                "source": [each.source] * len(each.seconds),
            }
        )
        for split, each in durations.items()
    ]
    return pa.concat_tables(tables)


def _of_table(table: pa.Table) -> dict[str, Durations]:
    durations = {}
    for split in pc.unique(table["split"]).to_pylist():
        rows = table.filter(pc.field("split") == split)
        durations[split] = Durations(rows["duration"].to_pylist())
        if "source" in table.column_names:
            durations[split] = replace(durations[split], source=rows["source"][0].as_py())
    return durations
