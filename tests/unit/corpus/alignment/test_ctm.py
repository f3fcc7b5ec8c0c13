import io

import pytest

from pipeline.audio.utterance import AlignmentError, Segment
from pipeline.corpus.alignment.ctm import Ctm


def ctm(content, **more):
    files = {"a.ctm": content, **more}
    return Ctm((name, io.BytesIO(text.encode())) for name, text in files.items())


def test_with_and_without_confidence_comments_and_blank_lines():
    found = ctm(
        ";; made by an aligner\nrec1 1 0.00 0.25 hello 0.98\n\nrec1 1 0.25 0.50 world\n"
        "rec2 A 1.0 0.5 hello 1.00 lex spk\n"
    )
    assert list(found.names) == ["rec1", "rec2"]
    assert found.segments("rec1") == (Segment(0.0, 0.25, "hello"), Segment(0.25, 0.75, "world"))
    assert found.segments("rec2") == (Segment(1.0, 1.5, "hello"),)


def test_a_name_may_be_spread_over_places_and_files():
    found = ctm("r 1 0 1 a\ns 1 0 1 x\nr 1 1 1 b\n", other="r 1 2 1 c\n")
    assert [one.label for one in found.segments("r")] == ["a", "b", "c"]


def test_kaldis_phones_lose_their_position_and_its_silence_its_capitals():
    found = ctm("".join(f"r 1 0 1 {x}\n" for x in ("SIL", "AH0_B", "T_I", "SPN_S", "_B", "a_b")))
    labels = [one.label for one in found.segments("r")]
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
def test_a_broken_line_is_named_and_spoils_its_own_name_alone(line, reason):
    found = ctm(f"other 1 0 1 a\nr 1 0 1 a\n{line}\n")
    with pytest.raises(AlignmentError, match=reason):
        found.segments("r")
    assert found.segments("other") == (Segment(0.0, 1.0, "a"),)


def test_bytes_that_are_no_text_are_a_broken_line():
    found = Ctm([("a.ctm", io.BytesIO(b"r 1 0 1 \xff\n"))])
    with pytest.raises(AlignmentError, match="not `name channel"):
        found.segments("r")
