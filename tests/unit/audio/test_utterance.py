import pytest
from pyarrow import ArrowInvalid

from pipeline.audio.utterance import (
    Reject,
    Segment,
    Utterance,
    from_table,
    rejects_to_table,
    to_table,
)
from pipeline.storage import table_schemas

ALIGNED = Utterance("a", "train", "/a.wav", 0.5, 1.25, "s", "hi", (Segment(0.0, 0.25, "h"),))
UNALIGNED = Utterance("b", "test", "s3://bucket/b.wav", 0.0, 2.0, "s", "ho", None)
SILENT = Utterance("c", "test", "/c.wav", 0.0, 2.0, "s", "ha", ())


def test_a_table_gives_back_what_went_in():
    table = to_table([ALIGNED, UNALIGNED, SILENT])
    assert table.schema == table_schemas.CORPUS
    assert from_table(table) == [ALIGNED, UNALIGNED, SILENT]


def test_no_utterances_make_an_empty_table_of_the_same_schema():
    assert to_table([]).schema == table_schemas.CORPUS
    assert from_table(to_table([])) == []


def test_rejects_keep_a_missing_id():
    table = rejects_to_table([Reject(None, "m.jsonl:3", "broken line: x")])
    assert table.schema == table_schemas.REJECTS
    assert table.to_pylist() == [
        {"utt_id": None, "source": "m.jsonl:3", "reason": "broken line: x", "what": "utterance"}
    ]


def test_a_wrong_type_does_not_enter_the_table():
    with pytest.raises((ArrowInvalid, TypeError)):
        to_table([Utterance("a", "train", "/a.wav", "soon", 1.0, "s", "hi")])
