import pytest

from pipeline.audio.utterance import Reject
from pipeline.corpus.summary import commonest, summarize


def rejects(number, reason, what="utterance"):
    return [Reject(f"{reason[0]}{index}", f"{index}.wav", reason, what) for index in range(number)]


def test_nothing_is_said_of_nothing():
    assert summarize([], "utterance") == []


@pytest.mark.parametrize(
    ("what", "headline"),
    [
        ("utterance", "rejected 3 utterances, with reasons in rejects.parquet"),
        ("alignment", "rejected 3 alignments, with reasons in rejects.parquet"),
        ("warning", "warns of 3 utterances that it keeps, with reasons in rejects.parquet"),
    ],
)
def test_the_commonest_kind_comes_first_with_ids_and_a_whole_reason(what, headline):
    entries = [
        *rejects(1, "a: one", what),
        *rejects(2, "silence: every sample is 0", what),
    ]
    assert summarize(entries, what) == [
        headline,
        "2 x silence, such as s0 (0.wav): silence: every sample is 0; also s1",
        "1 x a, such as a0 (0.wav): a: one",
    ]


def test_ten_are_named():
    _, line = summarize(rejects(11, "silence"), "utterance")
    assert line.startswith("11 x silence, such as s0 (0.wav): silence; also s1, s2, ")
    assert line.endswith("s8, s9, …")
    _, line = summarize(rejects(10, "silence"), "utterance")
    assert line.endswith("s8, s9")


def test_a_reject_without_an_utterance_is_named_by_its_source():
    entries = [Reject(None, "m.jsonl:4", "broken line: x")]
    assert commonest(entries) == "  1 x broken line, such as m.jsonl:4: broken line: x"


def test_an_error_names_three_kinds_and_a_summary_ten():
    entries = [each for kind in "abcdefghijkl" for each in rejects(1, kind)]
    assert len(commonest(entries).splitlines()) == 3
    assert len(summarize(entries, "utterance")) == 1 + 10
