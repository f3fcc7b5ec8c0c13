import io

import pytest

from pipeline.audio.utterance import AlignmentError, Segment
from pipeline.corpus.alignment.ctm import Ctm


def ctm(content, **more):
    files = {"a.ctm": content, **more}
    return Ctm((name, io.BytesIO(text.encode())) for name, text in files.items())


def test_with_and_without_confidence_comments_and_blank_lines():
    alignments = ctm(
        ";; made by an aligner\nrec1 1 0.00 0.25 hello 0.98\n\nrec1 1 0.25 0.50 world\n"
        "rec2 A 1.0 0.5 hello 1.00 lex spk\n"
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


def test_kaldis_word_positions_and_silences_are_normalised():
    alignments = ctm(
        "".join(f"r 1 0 1 {x}\n" for x in ("SIL", "AH0_B", "T_I", "SPN_S", "_B", "a_b"))
    )
    labels = [segment.label for segment in alignments.segments("r")]
    assert labels == ["sil", "AH0", "T", "spn", "_B", "a_b"]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("r 1 0.5 a", r"not `name channel start duration label`: a\.ctm:3"),
        ("r", r"not `name channel start duration label`: a\.ctm:3"),
        ("r 1 * * <ALT_BEGIN>", "not `name channel"),
        ("r 1 -1 0.5 a", r"not seconds from 0 on: a\.ctm:3"),
        ("r 1 0 -0.5 a", "not seconds from 0 on"),
        ("r 1 nan 0.5 a", "not seconds from 0 on"),
        ("r 1 0 inf a", "not seconds from 0 on"),
        ("r 2 0 1 a", r"several channels of one recording: r, \['1', '2'\]"),
    ],
)
def test_a_broken_line_affects_only_its_own_name(line, reason):
    alignments = ctm(f"other 1 0 1 a\nr 1 0 1 a\n{line}\n")
    with pytest.raises(AlignmentError, match=reason):
        alignments.segments("r")
    assert alignments.segments("other") == (Segment(0.0, 1.0, "a"),)


def test_bytes_that_are_not_text_are_a_broken_line():
    alignments = Ctm([("a.ctm", io.BytesIO(b"r 1 0 1 \xff\n"))])
    with pytest.raises(AlignmentError, match="not `name channel"):
        alignments.segments("r")
