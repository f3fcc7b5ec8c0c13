"""Alignments in TIMIT's format: one .PHN file for each utterance, with times in samples."""

from pipeline.audio.utterance import AlignmentError, Segment

_TIMIT_RATE_HZ = 16000

# At the ends, between closure and release, and in pauses; purity treats `sil` as silence.
_SILENCE = frozenset({"h#", "epi", "pau"})


def parse_phn(content: bytes) -> tuple[Segment, ...]:
    """The phones of lines such as `3050 4559 sh`; TIMIT's three silences become `sil`.

    Raises:
        AlignmentError: a line is not `start end label`, or ends before it starts.
    """
    return tuple(
        _parse_line(line, number)
        for number, line in enumerate(content.splitlines(), start=1)
        if line.strip()
    )


def _parse_line(line: bytes, number: int) -> Segment:
    try:
        first, last, label = line.decode().split()
        start, end = int(first), int(last)
    except ValueError:
        raise AlignmentError(
            f".PHN line is not `start end label` in samples: line {number}, {line[:60]!r}"
        ) from None
    if not 0 <= start <= end:
        raise AlignmentError(
            f".PHN line has a negative start, or an end before it: line {number}, {line[:60]!r}"
        )
    plain = "sil" if label in _SILENCE else label
    return Segment(start / _TIMIT_RATE_HZ, end / _TIMIT_RATE_HZ, plain)
