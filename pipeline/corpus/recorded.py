"""The adapter of a corpus of recordings: alignments are the same whatever its format."""

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import groupby
from operator import attrgetter
from typing import Any, TypeVar

from pipeline.audio.utterance import Utterance, first_of_each_split
from pipeline.config import digest
from pipeline.config.corpus import RecordedCorpus
from pipeline.corpus.adapter import Adapter, Entries
from pipeline.corpus.alignment.lookup import Alignments, list_alignments
from pipeline.corpus.expected_durations import Durations, expected_durations
from pipeline.corpus.listing import audio_addresses
from pipeline.progress import Progress
from pipeline.storage.artifacts import Artifact
from pipeline.storage.file_infos import file_infos

RecordedT = TypeVar("RecordedT", bound=RecordedCorpus)


@dataclass(frozen=True)
class RecordedAdapter(Adapter[RecordedT]):
    """An `Adapter` from what is particular to one format.

    Attributes:
        section: the keys that `corpus` has in a config.
        entries: every utterance and every row that cannot become one, in a fixed order.
        contents: what the corpus consists of, without its audio and alignments, as JSON values and
            bytes.
        path_keys: the keys of `section` that name paths or addresses, one or several each.
        lists_audio: whether `contents` has size and version of all audio, because it lists folders.
    """

    section: type[RecordedT]
    entries: Callable[[RecordedT], Entries]
    contents: Callable[[RecordedT], Any]
    path_keys: tuple[str, ...]
    lists_audio: bool = False

    def read(self, config: RecordedT, _output: Artifact, _progress: Progress) -> Entries:
        """The entries, with alignments from the files that `corpus.alignments` names.

        Raises:
            CorpusError: corpus or alignments do not exist, or these belong to another corpus.
        """
        alignments = Alignments(config)
        for entry in self.entries(config):
            yield from alignments.attach(entry) if isinstance(entry, Utterance) else (entry,)
        yield from alignments.rejects()
        alignments.require_matches()

    def fingerprint(self, config: RecordedT, cache: Artifact) -> str:
        """Texts and alignments count by content, audio by size and version."""
        alignments = list_alignments(config)
        aligned = alignments.digests(cache) if alignments else {}
        contents = _hash_bytes(self.contents(config))
        audio = [] if self.lists_audio else self._audio(config, contents, cache)
        return digest([contents, aligned, audio])

    def _audio(self, config: RecordedT, contents: Any, cache: Artifact) -> list[tuple[str, str]]:
        """The audio files with their sizes and versions."""
        asked = [config.model_dump(mode="json"), contents]
        addresses = audio_addresses(cache, asked, self.entries, lambda: self._addresses(config))
        return [(address, str(info)) for address, info in file_infos(addresses).items()]

    def _addresses(self, config: RecordedT) -> Iterator[str]:
        return (utterance.audio for utterance in self._chosen(config))

    def _chosen(self, config: RecordedT) -> list[Utterance]:
        """The utterances that are to be checked, sorted by split and utt_id."""
        utterances = (
            entry
            for entry in self.entries(config)
            if isinstance(entry, Utterance) and entry.split in config.splits.names
        )
        return first_of_each_split(utterances, config.max_utterances)

    def paths(self, config: RecordedT) -> dict[str, str]:
        paths: dict[str, str] = {}
        for key in (*self.path_keys, "alignments"):
            value = getattr(config, key)
            if isinstance(value, Mapping):
                paths |= {f"{key}.{name}": path for name, path in value.items()}
            elif value is not None:
                paths[key] = value
        return paths

    def durations(self, config: RecordedT) -> dict[str, Durations]:
        splits = groupby(self._chosen(config), key=attrgetter("split"))
        return {split: expected_durations(list(members), config) for split, members in splits}

    def speakers(self, config: RecordedT) -> set[str]:
        return {utterance.speaker for utterance in self._chosen(config)}


def _hash_bytes(contents: Any) -> Any:
    """`contents` with the SHA-256 of all bytes in their place."""
    if isinstance(contents, str):
        return contents
    if isinstance(contents, bytes):
        return hashlib.sha256(contents).hexdigest()
    if isinstance(contents, Mapping):
        return {key: _hash_bytes(value) for key, value in contents.items()}
    if isinstance(contents, Iterable):
        return [_hash_bytes(value) for value in contents]
    return contents
