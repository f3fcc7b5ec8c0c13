import pytest

from pipeline.audio.utterance import AlignmentError, Segment
from pipeline.config import Purity
from pipeline.corpus.alignment.phn import parse_phn


def test_samples_become_seconds_and_the_three_silences_one():
    content = (
        b"0 3040 h#\n3040 4560 sh\n4560 5760 iy\r\n5760 6000 epi\n6000 6400 pau\n\n6400 8000 h#\n"
    )
    assert parse_phn(content) == (
        Segment(0.0, 0.19, "sil"),
        Segment(0.19, 0.285, "sh"),
        Segment(0.285, 0.36, "iy"),
        Segment(0.36, 0.375, "sil"),
        Segment(0.375, 0.4, "sil"),
        Segment(0.4, 0.5, "sil"),
    )


def test_its_silence_is_silence_to_purity():
    (silence,) = {segment.label for segment in parse_phn(b"0 1 h#\n1 2 epi\n2 3 pau\n")}
    assert silence in Purity().silence_labels


def test_a_closure_is_not_silence():
    assert [segment.label for segment in parse_phn(b"0 100 kcl\n100 200 k\n")] == ["kcl", "k"]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"0 100", "not `start end label` in samples: line 2"),
        (b"0 100 a b", "not `start end label`"),
        (b"0.0 0.1 a", "not `start end label`"),
        (b"\xff 1 a", "not `start end label`"),
        (b"200 100 a", "an end before it: line 2"),
        (b"-5 100 a", "has a negative start"),
    ],
)
def test_a_broken_line_is_named(line, reason):
    with pytest.raises(AlignmentError, match=reason):
        parse_phn(b"0 1 h#\n" + line)
