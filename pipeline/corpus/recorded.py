"""The adapter of a corpus of recordings: alignments are the same whatever its format."""

import hashlib
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from pipeline.audio.utterance import Utterance, first_of_each_split
from pipeline.config import digest
from pipeline.config.corpus import RecordedCorpus
from pipeline.corpus.adapter import Adapter, Entries
from pipeline.corpus.alignment.lookup import Alignments, list_alignments
from pipeline.progress import Progress
from pipeline.storage.artifacts import Artifact

RecordedT = TypeVar("RecordedT", bound=RecordedCorpus)


@dataclass(frozen=True)
class RecordedAdapter(Adapter[RecordedT]):
    """An `Adapter` from what is particular to one format.

    Attributes:
        section: the keys that `corpus` has in a config.
        entries: every utterance and every row that cannot become one, in a fixed order.
        contents: what the corpus consists of, without its audio, as JSON values and bytes.
        path_keys: the keys of `section` that name paths or addresses, one or several each.
        has_durations: whether `entries` knows durations, without opening audio.
    """

    section: type[RecordedT]
    entries: Callable[[RecordedT], Entries]
    contents: Callable[[RecordedT], Any]
    path_keys: tuple[str, ...]
    has_durations: bool = False

    def read(self, config: RecordedT, _output: Artifact, _progress: Progress) -> Entries:
        """The entries, with alignments from the files that `corpus.alignments` names.

        Raises:
            CorpusError: corpus or alignments do not exist, or these belong to another corpus.
        """
        alignments = Alignments(config)
        for entry in self.entries(config):
            yield from alignments.attach(entry) if isinstance(entry, Utterance) else (entry,)
        alignments.require_matches()

    def fingerprint(self, config: RecordedT) -> str:
        alignments = list_alignments(config)
        recorded = _hash_bytes(self.contents(config))
        return digest([recorded, alignments.fingerprint() if alignments else []])

    def paths(self, config: RecordedT) -> dict[str, str]:
        paths: dict[str, str] = {}
        for key in (*self.path_keys, "alignments"):
            value = getattr(config, key)
            if isinstance(value, Mapping):
                paths |= {f"{key}.{name}": path for name, path in value.items()}
            elif value is not None:
                paths[key] = value
        return paths

    def durations(self, config: RecordedT) -> list[float]:
        if not self.has_durations:
            return []
        utterances = [
            entry
            for entry in self.entries(config)
            if isinstance(entry, Utterance) and entry.split in config.splits.names
        ]
        chosen = first_of_each_split(utterances, config.max_utterances)
        durations = (utterance.duration for utterance in chosen)
        return [seconds for seconds in durations if math.isfinite(seconds)]


def _hash_bytes(contents: Any) -> Any:
    """`contents` with the SHA-256 of all bytes in their place."""
    if isinstance(contents, bytes):
        return hashlib.sha256(contents).hexdigest()
    if isinstance(contents, Mapping):
        return {key: _hash_bytes(value) for key, value in contents.items()}
    if isinstance(contents, Iterable) and not isinstance(contents, str):
        return [_hash_bytes(value) for value in contents]
    return contents
