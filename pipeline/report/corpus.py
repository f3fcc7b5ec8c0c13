"""The corpus in figures: what each split holds, and what was left out for which reason."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import pyarrow as pa
import pyarrow.compute as pc

from pipeline.audio.utterance import Reject
from pipeline.report.variant import Variant

KINDS = {
    "utterance": "left out",
    "alignment": "alignment left out",
    "warning": "kept, with a warning",
}


@dataclass(frozen=True)
class SplitRow:
    """One split of one prepared corpus; `whose` says which of several it is."""

    whose: str
    split: str
    utterances: int
    hours: float
    speakers: int


@dataclass(frozen=True)
class RejectRow:
    """How many utterances have one reason, and the first of them."""

    kind: str
    reason: str
    count: int
    example: str


@dataclass(frozen=True)
class Corpus:
    """The splits of all prepared corpora, of which folds have one each, and the rejects of all."""

    splits: list[SplitRow]
    rejects: list[RejectRow]


def corpus(variants: Sequence[Variant]) -> Corpus:
    """The corpora that the variants read, each once."""
    prepared = {
        node.key: (variant, node)
        for variant in variants
        for node in variant.outputs("prepare_corpus")
    }
    splits: list[SplitRow] = []
    rejects: list[pa.Table] = []
    for variant, node in prepared.values():
        columns = ["split", "speaker", "duration"]
        read = partial(node.artifact.read_table, "corpus.parquet", columns)
        if (rows := variant.read("the corpus", read)) is not None:
            whose = node.label if len(prepared) > 1 else ""
            splits += [_split(whose, rows, each) for each in _splits(variant, rows)]
        read = partial(node.artifact.read_table, "rejects.parquet")
        if (left_out := variant.read("the rejects", read)) is not None:
            rejects.append(left_out)
    return Corpus(splits, list(_rejects(rejects)))


def _splits(variant: Variant, rows: pa.Table) -> list[str]:
    """Those that the corpus has, in the order of the config; folds have some of their own."""
    present = set(rows["split"].unique().to_pylist())
    named = (*variant.config.corpus.splits.names, *sorted(present))
    return [name for name in dict.fromkeys(named) if name in present]


def _split(whose: str, rows: pa.Table, split: str) -> SplitRow:
    of_split = rows.filter(pc.field("split") == split)
    speakers = len(of_split["speaker"].unique())
    hours = (pc.sum(of_split["duration"]).as_py() or 0.0) / 3600
    return SplitRow(whose, split, of_split.num_rows, hours, speakers)


def _rejects(tables: Sequence[pa.Table]) -> Iterator[RejectRow]:
    """The reasons, the commonest first; each reject once, in however many corpora it is."""
    found = {Reject(**row): None for table in tables for row in table.to_pylist()}
    counts = Counter((each.what, each.kind) for each in found)
    first = {(each.what, each.kind): each for each in reversed(found)}
    for key, count in counts.most_common():
        example = first[key]
        named = f"{example.utt_id or example.source}: {example.reason}"
        yield RejectRow(KINDS.get(example.what, example.what), example.kind, count, named)
