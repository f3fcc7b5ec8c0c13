"""What an adapter is: one file that knows everything about one kind of corpus.

The file ends in `ADAPTER = ...`; see docs/new_adapter.md. `plan` imports it, so it imports neither
torch nor Ray at its top.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Any, Generic, TypeVar

from pipeline.audio.utterance import Reject, Utterance
from pipeline.config.corpus import CorpusSection, load_adapter
from pipeline.corpus.expected_durations import Durations
from pipeline.progress import Progress
from pipeline.storage.artifacts import Artifact

Entries = Iterator[Utterance | Reject]
SectionT = TypeVar("SectionT", bound=CorpusSection)


class Adapter(ABC, Generic[SectionT]):
    """One kind of corpus; `section` has the keys of `corpus` in a config.

    A corpus of recordings is a `pipeline.corpus.recorded.RecordedAdapter`.
    """

    section: type[SectionT]

    @abstractmethod
    def read(self, config: SectionT, output: Artifact, progress: Progress) -> Entries:
        """Every utterance and every row that cannot become one; audio stays unopened.

        Only a corpus that makes its own audio writes it into `output`.

        Raises:
            CorpusError: the corpus does not exist, or it cannot be used at all.
        """

    @abstractmethod
    def fingerprint(self, config: SectionT, cache: Artifact) -> str:
        """Changes when the corpus changes; reads no audio, so that planning stays quick.

        `cache` is a folder for what need not be computed again; it may be emptied at any time.

        Raises:
            CorpusError: the corpus does not exist.
        """

    @abstractmethod
    def paths(self, config: SectionT) -> dict[str, str]:
        """The paths and addresses that every node must reach, by the keys that name them."""

    @abstractmethod
    def durations(self, config: SectionT) -> dict[str, Durations]:
        """How long the utterances of each split are, for `plan`; nothing where nobody can know.

        Raises:
            CorpusError: the corpus does not exist.
            AudioStorageError: the storage of its audio failed.
        """

    @abstractmethod
    def speakers(self, config: SectionT) -> set[str]:
        """Who speaks in the splits that the config names; reads no audio, so that `plan` stays quick.

        Raises:
            CorpusError: the corpus does not exist.
        """


def adapter_of(config: CorpusSection) -> Adapter[Any]:
    """The adapter of the config's kind."""
    adapter: Adapter[Any] = load_adapter(config.kind)
    return adapter
