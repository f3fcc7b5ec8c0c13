"""Alignments as CTM: `name channel start duration label [confidence …]`, seconds, any order."""

import codecs
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import groupby

from pipeline.audio.unusable import UnusableError
from pipeline.audio.utterance import AlignmentError, Segment
from pipeline.corpus.text_table import decode_line, fields, split_lines


@dataclass(frozen=True)
class _Block:
    """Consecutive lines of one name, kept as bytes because a corpus has millions of lines."""

    source: str
    first_line: int
    content: bytes


class Ctm:
    """The lines of CTM files by their first column, a recording or an utterance.

    Comments (`;;`) are skipped.
    """

    def __init__(self, files: Iterable[tuple[str, bytes]]) -> None:
        self._blocks: dict[str, list[_Block]] = {}
        for source, content in files:
            numbered = enumerate(split_lines(content), start=1)
            for name, lines in groupby(numbered, key=lambda row: _name(row[1])):
                numbers, contents = zip(*lines, strict=True)
                if name and not name.startswith(";;"):
                    block = _Block(source, numbers[0], b"".join(contents))
                    self._blocks.setdefault(name, []).append(block)

    @property
    def names(self) -> Iterable[str]:
        return self._blocks.keys()

    def segments(self, name: str) -> tuple[Segment, ...]:
        """The labels of one name, in the order of their lines.

        Raises:
            AlignmentError: a line is broken, or the name has several channels, which cannot be told
                apart because channels are averaged.
        """
        rows = [
            _parse_line(line, f"{block.source}:{number}")
            for block in self._blocks[name]
            for number, line in enumerate(split_lines(block.content), start=block.first_line)
        ]
        channels = sorted({channel for channel, _ in rows})
        if len(channels) > 1:
            raise AlignmentError(f"CTM has several channels of one recording: {name}, {channels}")
        return tuple(segment for _, segment in rows)


def _name(line: bytes) -> str:
    parts = line.removeprefix(codecs.BOM_UTF8).split(maxsplit=1)
    return parts[0].decode("utf-8", "replace") if parts else ""


def _parse_line(line: bytes, source: str) -> tuple[str, Segment]:
    """The channel and the segment."""
    try:
        _, channel, first, length, label, *_ = fields(decode_line(line))
        start, duration = float(first), float(length)
    except (UnusableError, ValueError):
        raise AlignmentError(
            f"CTM line is not `name channel start duration label`: {source}, {line[:60]!r}"
        ) from None
    return channel, Segment(start, start + duration, label)
