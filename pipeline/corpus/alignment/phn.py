"""Alignments as TIMIT has them: a .PHN file an utterance, its times in samples."""

from pipeline.audio.utterance import AlignmentError, Segment

_SAMPLE_RATE_HZ = 16000

# What stands at the ends, between closure and release, and in pauses; purity knows them as `sil`.
_SILENCE = frozenset({"h#", "epi", "pau"})


def parse_phn(content: bytes) -> tuple[Segment, ...]:
    """The phones of lines such as `3050 4559 sh`; TIMIT's three silences become `sil`.

    Raises:
        AlignmentError: a line is no `start end label`, or ends before it starts.
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
            f".PHN line is no `start end label` in samples: line {number}, {line[:60]!r}"
        ) from None
    if not 0 <= start <= end:
        raise AlignmentError(f".PHN times do not rise from 0 on: line {number}, {line[:60]!r}")
    plain = "sil" if label in _SILENCE else label
    return Segment(start / _SAMPLE_RATE_HZ, end / _SAMPLE_RATE_HZ, plain)
