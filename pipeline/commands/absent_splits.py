"""The splits that a config names and its corpus lacks, told before any audio is decoded."""

from collections.abc import Sequence

from pipeline.audio.utterance import Reject, Utterance
from pipeline.corpus.adapter import adapter_of
from pipeline.corpus.durations import durations_by_split
from pipeline.corpus.listing import listings_in
from pipeline.corpus.recorded import RecordedAdapter
from pipeline.graph.graph import Node

STAGE = "prepare_corpus"


def absent_splits(node: Node) -> str | None:
    """What the corpus of recordings that `node` prepares lacks, and what it has instead.

    Raises:
        CorpusError: the corpus does not exist.
    """
    corpus = node.config.corpus.whole
    adapter = adapter_of(corpus)
    if node.stage.name != STAGE or not isinstance(adapter, RecordedAdapter):
        return None
    known = durations_by_split(corpus, node.artifact, listings_in(node.config.storage))
    missing = [split for split in corpus.splits.names if split not in known]
    if not missing:
        return None
    entries = list(adapter.entries(corpus))
    splits = sorted({entry.split for entry in entries if isinstance(entry, Utterance)})
    instead = f"; its splits are {splits}" if splits else ", nor of any other"
    return (
        f"The corpus has no utterance of the splits {missing}{instead}{_unusable(entries)}: correct "
        f"corpus.splits or the corpus, or {STAGE} ends in an error"
    )


def _unusable(entries: Sequence[Utterance | Reject]) -> str:
    """How many rows are no utterances, and the first of them."""
    rejects = [entry for entry in entries if isinstance(entry, Reject)]
    if not rejects:
        return ""
    return f" ({len(rejects)} rows cannot be used, first {rejects[0].source}: {rejects[0].reason})"
