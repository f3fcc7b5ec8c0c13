"""Alignments as CTM: `name channel start duration label [confidence …]`, seconds, any order."""

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import groupby
from typing import IO

from pipeline.audio.utterance import AlignmentError, Segment

# Kaldi marks a phone's position in its word: beginning, inside, end, singleton.
_POSITION = re.compile(r"(?<=.)_[BIES]$")
_SILENCE = {"SIL": "sil", "SPN": "spn"}


@dataclass(frozen=True)
class _Block:
    """Consecutive lines of one name, kept as bytes because a corpus has millions of lines."""

    source: str
    first_line: int
    content: bytes


class Ctm:
    """The lines of CTM files by their first column, a recording or an utterance.

    Kaldi's word position is removed from labels (`AH0_B` becomes `AH0`), and its SIL and SPN become
    `sil` and `spn`, which purity treats as silence. Comments (`;;`) are skipped.
    """

    def __init__(self, files: Iterable[tuple[str, IO[bytes]]]) -> None:
        self._blocks: dict[str, list[_Block]] = {}
        for source, file in files:
            for name, lines in groupby(enumerate(file, start=1), key=lambda row: _name(row[1])):
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
            for number, line in enumerate(block.content.splitlines(), start=block.first_line)
        ]
        channels = sorted({channel for channel, _ in rows})
        if len(channels) > 1:
            raise AlignmentError(f"CTM has several channels of one recording: {name}, {channels}")
        return tuple(segment for _, segment in rows)


def _name(line: bytes) -> str:
    fields = line.split(maxsplit=1)
    return fields[0].decode("utf-8", "replace") if fields else ""


def _parse_line(line: bytes, source: str) -> tuple[str, Segment]:
    """The channel and the segment."""
    try:
        _, channel, first, length, label, *_ = line.decode().split()
        start, duration = float(first), float(length)
    except ValueError:
        raise AlignmentError(
            f"CTM line is not `name channel start duration label`: {source}, {line[:60]!r}"
        ) from None
    if not (start >= 0 and duration >= 0 and math.isfinite(start + duration)):
        raise AlignmentError(f"CTM times are not seconds from 0 on: {source}, {line[:60]!r}")
    plain = _POSITION.sub("", label)
    return channel, Segment(start, start + duration, _SILENCE.get(plain, plain))
