import codecs

import pytest

from pipeline.audio.utterance import AlignmentError, Segment
from pipeline.corpus.alignment.ctm import Ctm


def ctm(content, **more):
    return Ctm((name, text.encode()) for name, text in {"a.ctm": content, **more}.items())


def test_with_and_without_confidence_comments_and_blank_lines():
    alignments = ctm(
        ";; made by an aligner\nrec1 1 0.00 0.25 hello 0.98\n\n;; rec1 1 0.1 0.1 no\n"
        "rec1 1 2.5e-01 0.50 world\n  ;;\nrec2 A 1.0 0.5 hello 1.00 lex spk\n"
    )
    assert list(alignments.names) == ["rec1", "rec2"]
    assert alignments.segments("rec1") == (
        Segment(0.0, 0.25, "hello"),
        Segment(0.25, 0.75, "world"),
    )
    assert alignments.segments("rec2") == (Segment(1.0, 1.5, "hello"),)


def test_a_name_may_be_spread_over_blocks_and_files():
    alignments = ctm("r 1 0 1 a\ns 1 0 1 x\nr 1 1 1 b\n", other="r 1 2 1 c\n")
    assert [segment.label for segment in alignments.segments("r")] == ["a", "b", "c"]


LINES = "r 1 0 1 a\nr 1 1 1 ä\ns 1 0 1 c\n"


@pytest.mark.parametrize(
    "content",
    [
        LINES.encode(),
        LINES.encode("utf-8-sig"),
        codecs.BOM_UTF8 + b";; comment\n" + LINES.encode(),
        b"r 1 0 1 a\n" + LINES[10:].encode("utf-8-sig"),  # files with marks, concatenated
        LINES.encode("utf-16"),
        LINES.replace("\n", "\r\n").encode(),
        LINES.replace("\n", "\r").encode(),
        LINES.replace(" ", "\t").encode(),
        LINES.replace(" ", "  ").encode(),
    ],
)
def test_byte_order_marks_encodings_and_line_ends_lose_nothing(content):
    alignments = Ctm([("a.ctm", content)])
    assert list(alignments.names) == ["r", "s"]
    assert alignments.segments("r") == (Segment(0.0, 1.0, "a"), Segment(1.0, 2.0, "ä"))


def test_an_unusual_space_belongs_to_a_label():
    assert ctm("r 1 0 1 a\u00a0b\u2028c\n").segments("r") == (Segment(0.0, 1.0, "a\u00a0b\u2028c"),)


def test_no_lines_have_no_names():
    assert list(ctm("").names) == []
    assert list(ctm(";; nothing\n\n").names) == []


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("r 1 0.5 a", r"not `name channel start duration label`: a\.ctm:3"),
        ("r", r"not `name channel start duration label`: a\.ctm:3"),
        ("r 1 * * <ALT_BEGIN>", "not `name channel"),
        ("r 1 0,5 0,5 a", "not `name channel"),
        ("r 1 1 1 b\rr 1 2 1 c", "not `name channel"),
        ("r 1 1 1 b\0", "not `name channel"),
        ("r 2 0 1 a", r"several channels of one recording: r, \['1', '2'\]"),
    ],
)
def test_a_broken_line_affects_only_its_own_name(line, reason):
    alignments = ctm(f"other 1 0 1 a\nr 1 0 1 a\n{line}\n")
    with pytest.raises(AlignmentError, match=reason):
        alignments.segments("r")
    assert alignments.segments("other") == (Segment(0.0, 1.0, "a"),)


def test_bytes_that_are_not_text_are_a_broken_line():
    alignments = Ctm([("a.ctm", b"r 1 0 1 \xff\n")])
    with pytest.raises(AlignmentError, match="not `name channel"):
        alignments.segments("r")
