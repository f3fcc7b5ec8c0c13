"""The corpus in figures."""

import pyarrow as pa
from evaluated_variants import config, evaluated

from pipeline.audio.utterance import Reject, rejects_to_table
from pipeline.graph.graph import Graph
from pipeline.report.corpus import RejectRow, SplitRow, corpus
from pipeline.report.variant import variants

ROWS = [
    {"utt_id": f"u{number}", "split": split, "speaker": speaker, "duration": 900.0}
    for number, (split, speaker) in enumerate((("train", "a"), ("train", "b"), ("test", "a")))
]
REJECTS = [
    Reject("u7", "x.wav", "no such file: x.wav"),
    Reject("u8", "y.wav", "no such file: y.wav"),
    Reject("u9", "z.wav", "clipped: 3 %", "warning"),
]


def known(tmp_path, rejects=REJECTS):
    member = evaluated(tmp_path, "kmeans", [1] * 9)
    output = member.nodes["prepare_corpus"].artifact
    output.write_table("corpus.parquet", pa.Table.from_pylist(ROWS))
    output.write_table("rejects.parquet", rejects_to_table(rejects))
    return variants(Graph((member,)), [config(tmp_path, "kmeans")]), output


def test_splits_and_rejects_are_counted(tmp_path):
    found = corpus(known(tmp_path)[0])
    assert found.splits == [
        SplitRow("", "train", 2, 0.5, 2),
        SplitRow("", "test", 1, 0.25, 1),
    ]
    assert found.rejects == [
        RejectRow("left out", "no such file", 2, "u7: no such file: x.wav"),
        RejectRow("kept, with a warning", "clipped", 1, "u9: clipped: 3 %"),
    ]


def test_a_damaged_table_becomes_a_note(tmp_path):
    read, output = known(tmp_path)
    with output.write("corpus.parquet") as file:
        file.write(b"no table")
    found = corpus(read)
    assert not found.splits
    assert len(found.rejects) == 2
    [note] = read[0].notes
    assert note.startswith("kmeans: the corpus cannot be read: ")
