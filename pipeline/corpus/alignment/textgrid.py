"""Alignments from Praat TextGrids, in the long or the short text format.

Praat itself reads both alike: only numbers, texts in quotes and flags count; all else, such as
`intervals [1]:` or `xmin =`, is for the human reader, and `!` begins a comment.
"""

import codecs
import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import cycle

from pipeline.audio.utterance import AlignmentError, Segment

# What counts is captured; a quote alone is a text that was cut off.
_TOKEN = re.compile(
    r"""( "(?:[^"]|"")*" | <\w+> | [+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?(?![^\s=]) | " )
      | !.* | [^\s="]+""",
    re.VERBOSE,
)
_TEXT, _NUMBER, _FLAG = "text", "number", "flag"
_HEADERS = (['"ooTextFile"', '"TextGrid"'], ['"ooTextFile short"', '"TextGrid"'])
_OPEN = '"'
_MOST_NAMES = 10
_MOST_DIGITS = 9


@dataclass(frozen=True)
class _Tier:
    name: str
    segments: tuple[Segment, ...]


def parse_textgrid(content: bytes, names: Sequence[str] = ("phones",)) -> tuple[Segment, ...]:
    """The intervals of the tier with the first of `names` that the file has, blank ones too.

    Raises:
        AlignmentError: it is not a TextGrid in a text format, is cut short, or has no such tier or
            two of them.
    """
    tiers = _Reader(_text(content)).tiers()
    for name in names:
        found = [tier for tier in tiers if tier.name == name]
        if len(found) > 1:
            raise AlignmentError(f"TextGrid has several tiers of one name: '{name}'")
        if found:
            return found[0].segments
    raise AlignmentError(_no_tier(names[0], sorted({tier.name for tier in tiers})))


def _no_tier(name: str, present: list[str]) -> str:
    shown = ", ".join(f"'{each}'" for each in present[:_MOST_NAMES])
    more = f" and {len(present) - _MOST_NAMES} more" if len(present) > _MOST_NAMES else ""
    return (
        f"TextGrid has no such interval tier: '{name}', but {shown or 'none'}{more}; set "
        "corpus.alignment_tier, which may hold {speaker} and {utt_id}"
    )


class _Reader:
    """The numbers, texts and flags of a file, one after the other."""

    def __init__(self, text: str) -> None:
        self._tokens = [token for token in _TOKEN.findall(text) if token]
        self._next = 0

    def tiers(self) -> list[_Tier]:
        """The interval tiers, in the order of the file."""
        if self._tokens[:2] not in _HEADERS:
            raise AlignmentError(
                'not readable as a TextGrid: it does not begin with File type = "ooTextFile" and '
                'Object class = "TextGrid"; save it from Praat as a text file'
            )
        self._next = 2
        *_, exists = self._take(3, _NUMBER, _NUMBER, _FLAG)
        size = self._size() if exists == "<exists>" else 0
        tiers = [self._tier() for _ in range(size)]
        if rest := self._tokens[self._next :]:
            raise AlignmentError(f"not readable as a TextGrid: {rest[0]:.40} follows its last tier")
        return [tier for tier in tiers if tier is not None]

    def _tier(self) -> _Tier | None:
        """The next tier; None for one of points."""
        kind, name, _, _ = self._take(4, _TEXT, _TEXT, _NUMBER, _NUMBER)
        size = self._size()
        if kind == '"TextTier"':
            self._take(2 * size, _NUMBER, _TEXT)
            return None
        cells = self._take(3 * size, _NUMBER, _NUMBER, _TEXT)
        starts, ends = map(float, cells[::3]), map(float, cells[1::3])
        rows = zip(starts, ends, map(_unquoted, cells[2::3]), strict=True)
        return _Tier(_unquoted(name), tuple(Segment(*row) for row in rows))

    def _size(self) -> int:
        (token,) = self._take(1, _NUMBER)
        if not token.isdecimal() or len(token) > _MOST_DIGITS:
            raise AlignmentError(f"not readable as a TextGrid: {token:.40} where a count is due")
        return int(token)

    def _take(self, count: int, *kinds: str) -> list[str]:
        """The next tokens, whose kinds are `kinds` in turn."""
        taken = self._tokens[self._next : self._next + count]
        for token, kind in zip(taken, cycle(kinds), strict=False):
            if token == _OPEN:
                raise AlignmentError("TextGrid is cut short: a text has no closing quote")
            if _kind(token) != kind:
                raise AlignmentError(
                    f"not readable as a TextGrid: {token:.40} where a {kind} is due"
                )
        if len(taken) < count:
            raise AlignmentError("TextGrid is cut short: it announces more than it holds")
        self._next += count
        return taken


def _kind(token: str) -> str:
    return {'"': _TEXT, "<": _FLAG}.get(token[0], _NUMBER)


def _unquoted(token: str) -> str:
    return token[1:-1].replace('""', '"')


def _text(content: bytes) -> str:
    utf16 = content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    try:
        return content.decode("utf-16" if utf16 else "utf-8-sig")
    except UnicodeDecodeError:
        raise AlignmentError("not readable as a TextGrid: not UTF-8 or UTF-16") from None
