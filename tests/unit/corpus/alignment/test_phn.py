import pytest

from pipeline.audio.utterance import AlignmentError, Segment
from pipeline.corpus.alignment.phn import parse_phn


def parse(content, rate=16000):
    return parse_phn(content, "SA1.PHN", rate)


LINES = "0 3040 h#\n3040 4560 sh\n4560 5760 iy\n"
SEGMENTS = (Segment(0.0, 0.19, "h#"), Segment(0.19, 0.285, "sh"), Segment(0.285, 0.36, "iy"))


@pytest.mark.parametrize(
    "content",
    [
        LINES.encode(),
        LINES.encode("utf-8-sig"),
        LINES.encode("utf-16"),
        LINES.replace("\n", "\r\n").encode(),
        LINES.replace("\n", "\r").encode(),
        LINES.replace(" ", "\t").replace("\n", " \n\n").encode(),
    ],
)
def test_samples_become_seconds_whatever_marks_and_line_ends(content):
    assert parse(content) == SEGMENTS


def test_samples_of_another_rate():
    assert parse(b"0 4000 h#\n4000 8000 sh\n", 8000) == (
        Segment(0.0, 0.5, "h#"),
        Segment(0.5, 1.0, "sh"),
    )


def test_an_empty_file_has_no_segments():
    assert parse(b"") == ()


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"0 100", r"not `start end label` in samples: SA1\.PHN:2"),
        (b"0 100 a b", "not `start end label`"),
        (b"0.0 0.1 a", "not `start end label`"),
        (b"9" * 400 + b" 1 a", "not `start end label`"),
        (b"9" * 5000 + b" 1 a", "not `start end label`"),
        (b"\xff 1 a", "not `start end label`.*not UTF-8"),
    ],
)
def test_a_broken_line_is_named(line, reason):
    with pytest.raises(AlignmentError, match=reason):
        parse(b"0 1 h#\n" + line)
