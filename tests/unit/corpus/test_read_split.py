"""The utterances of a split, with alignments only where they are wanted."""

from dataclasses import replace

import pytest
from support import write_corpus

from pipeline.audio.utterance import Segment, Utterance
from pipeline.corpus import read_outputs
from pipeline.corpus.read_outputs import read_split
from pipeline.storage.artifacts import Artifact


@pytest.fixture
def utterances():
    """Of two splits in turn, more than one batch of rows, every third without an alignment."""
    segments = (Segment(0.0, 0.5, "AH"), Segment(0.5, 1.0, "sil"))
    return [
        Utterance(
            f"u{number:02d}",
            ("train", "test")[number % 2],
            f"{number}.wav",
            float(number),
            1.0,
            "ann",
            "a text",
            segments if number % 3 else None,
            "12@3",
            "ab",
        )
        for number in range(20)
    ]


@pytest.mark.parametrize("aligned", [True, False])
def test_a_split_is_read_in_its_order_and_aligned_if_wanted(
    tmp_path, monkeypatch, utterances, aligned
):
    monkeypatch.setattr(read_outputs, "ROWS", 3)
    corpus = Artifact(str(tmp_path / "corpus"))
    write_corpus(corpus, utterances)
    expected = [
        each if aligned else replace(each, alignment=None)
        for each in utterances
        if each.split == "test"
    ]
    assert read_split(corpus, "test", aligned=aligned) == expected
    assert read_split(corpus, "nowhere", aligned=aligned) == []
