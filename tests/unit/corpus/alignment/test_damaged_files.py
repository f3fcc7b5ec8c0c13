"""Whatever is in an alignment's file, it is read or refused with a reason; nothing else happens."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.audio.utterance import AlignmentError
from pipeline.corpus.alignment.ctm import Ctm
from pipeline.corpus.alignment.phn import parse_phn
from pipeline.corpus.alignment.textgrid import parse_textgrid

TEXTGRID = (
    b'File type = "ooTextFile"\nObject class = "TextGrid"\n\n0\n1\n<exists>\n2\n'
    b'"TextTier"\n"clicks"\n0\n1\n1\n0.5\n"click"\n'
    b'"IntervalTier"\n"phones"\n0\n1\n3\n0\n0.25\n""\n0.25\n0.75\n"OW1"\n0.75\n1\n"sil"\n'
)
CTM = b";; comment\nr 1 0 0.25 SIL\nr 1 0.25 0.5 OW1_S 0.9\ns 1 0.75 0.25 SIL\n"
PHN = b"0 4000 h#\n4000 12000 ow\n12000 16000 h#\n"


def read_ctm(content):
    ctm = Ctm([("a.ctm", content)])
    return [segment for name in ctm.names for segment in ctm.segments(name)]


READERS = {
    "textgrid": (parse_textgrid, TEXTGRID),
    "ctm": (read_ctm, CTM),
    "phn": (lambda content: parse_phn(content, "a.PHN", 16000), PHN),
}
REASONS = ("not readable as a TextGrid: ", "TextGrid ", "CTM ", ".PHN ")
DAMAGE = st.tuples(st.integers(0, 400), st.integers(0, 8), st.binary(max_size=8))


def outcome(read, content):
    """The segments, or the reason why there are none."""
    try:
        return read(content)
    except AlignmentError as error:
        return str(error)


def damaged(content, damages):
    for position, length, replacement in damages:
        first = position % (len(content) + 1)
        content = content[:first] + replacement + content[first + length :]
    return content


@pytest.mark.parametrize("kind", READERS)
@settings(max_examples=300, deadline=None)
@given(
    st.lists(DAMAGE, max_size=4),
    st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "utf-16-le"]),
    st.sampled_from(["\n", "\r\n", "\r"]),
)
def test_damaged_files_are_read_or_refused_with_a_reason(kind, damages, encoding, line_end):
    read, content = READERS[kind]
    spelled = content.decode().replace("\n", line_end).encode(encoding)
    result = outcome(read, damaged(spelled, damages))
    if isinstance(result, str):
        assert result.startswith(REASONS)
    else:
        assert {(type(each.start), type(each.label)) for each in result} <= {(float, str)}


@pytest.mark.parametrize("kind", READERS)
@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(kind, content):
    read, _ = READERS[kind]
    result = outcome(read, content)
    assert not isinstance(result, str) or result.startswith(REASONS)
