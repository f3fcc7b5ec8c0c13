"""Alignments in TIMIT's format: one .PHN file for each utterance, with times in samples."""

from pipeline.audio.utterance import AlignmentError, Reject, Segment
from pipeline.corpus.text_table import Line, fields, read_lines


def parse_phn(content: bytes, name: str, sample_rate_hz: int) -> tuple[Segment, ...]:
    """The phones of lines such as `3050 4559 sh`, whose samples are counted at `sample_rate_hz`.

    Raises:
        AlignmentError: a line is not `start end label`.
    """
    return tuple(_parse_line(line, sample_rate_hz) for line in read_lines(content, name))


def _parse_line(line: Line | Reject, sample_rate_hz: int) -> Segment:
    text = "" if isinstance(line, Reject) else line.text
    try:
        first, last, label = fields(text)
        start, end = int(first) / sample_rate_hz, int(last) / sample_rate_hz
    except (ValueError, OverflowError):
        reason = line.reason if isinstance(line, Reject) else repr(text[:60])
        raise AlignmentError(
            f".PHN line is not `start end label` in samples: {line.source}, {reason}"
        ) from None
    return Segment(start, end, label)
