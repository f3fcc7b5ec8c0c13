"""What a person reads about rejects: how many of which kind, ten of each, and what to do."""

from collections.abc import Sequence
from itertools import groupby

from pipeline.audio.utterance import Reject

_NAMED = 10
_SUMMARIZED = 10
_HEADLINES = {
    "utterance": "rejected {} utterances, with reasons in rejects.parquet",
    "alignment": "rejected {} alignments, with reasons in rejects.parquet",
    "warning": "warns of {} utterances that it keeps, with reasons in rejects.parquet",
}


def summarize(rejects: Sequence[Reject], what: str) -> list[str]:
    """Lines about all rejects of one `what`; each begins with a verb, or with a count."""
    if not rejects:
        return []
    return [_HEADLINES[what].format(len(rejects)), *_kinds(rejects)[:_SUMMARIZED]]


def commonest(rejects: Sequence[Reject]) -> str:
    """The three commonest kinds, an indented line each."""
    return "\n".join(f"  {line}" for line in _kinds(rejects)[:3])


def _kinds(rejects: Sequence[Reject]) -> list[str]:
    """A line for each kind, the commonest first, with the whole reason of its first reject."""
    by_kind = sorted(rejects, key=lambda reject: reject.kind)
    groups = [list(group) for _, group in groupby(by_kind, key=lambda reject: reject.kind)]
    groups.sort(key=len, reverse=True)
    return [_line(group) for group in groups]


def _line(group: list[Reject]) -> str:
    first, *others = group
    named = f"{first.utt_id} ({first.source})" if first.utt_id else first.source
    line = f"{len(group)} x {first.kind}, such as {named}: {first.reason}"
    if not others:
        return line
    also = ", ".join(other.utt_id or other.source for other in others[: _NAMED - 1])
    return f"{line}; also {also}" + (", …" if len(group) > _NAMED else "")
